"""Use trained weights on a folder of images: classes, CAMs, label maps and pictures, without masks or labels.

The weights are those of `aream artifacts export best MODEL --sweep NAME --what weights` or `segmenter`: a host's make
pseudo-labels as the sweep did, a segmenter's predictions. OUT is written as a whole: labels/ID.png, cams/ID.npy,
overlays/ID.png, and images.csv with the scores.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.errors import ConfigError
from orchestrator.console.command import command, run
from orchestrator.text import many

if TYPE_CHECKING:
    from workers.inference import HostModel, SegmenterModel

SAID_EVERY = 100
PRESENCE = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="model.safetensors, beside model.json"
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the images, in folders of any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument(
        "--presence",
        type=float,
        metavar="P",
        help=f"score above which a class is in an image, of a host (default: {PRESENCE:g})",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="of the background, of a host (default: that of the sweep's labels)",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PATH",
        help="a plug-in of the sweep that the model needs, as in its `plugins`; may be repeated (installed ones are "
        "known)",
    )


@command(
    add_arguments,
    """
%(prog)s --weights model/model.safetensors --images photos --out found
%(prog)s --weights model --images photos --out found --plugin mine/cam_vit.py
""",
)
def main(options: argparse.Namespace) -> int:
    import torch

    from aream.datasets.folder import Unlabelled
    from workers.files.model_export import HOST
    from workers.files.voc_export import written_whole
    from workers.inference import infer_host, infer_segmenter
    from workers.plugins import activate, read_plugin
    from workers.processes.runtime import Runtime

    if not options.weights.exists():
        raise ConfigError(f"--weights: {options.weights}: no such file or folder")
    folder = options.weights if options.weights.is_dir() else options.weights.parent
    model = _read(folder)
    for name, value in (("presence", options.presence), ("threshold", options.threshold)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"--{name}: need a number in (0, 1), got {value:g}")
        if value is not None and model["kind"] != HOST:
            raise ConfigError(f"--{name}: is about a host's CAMs, and {folder} holds a segmenter, which makes none")
    activate(read_plugin(place, Path.cwd()) for place in options.plugin)
    images = Unlabelled(options.images, model["classes"])
    runtime = Runtime(gpu=torch.cuda.is_available(), threads=torch.get_num_threads())
    with written_whole(options.out) as out:
        if model["kind"] == HOST:
            made = _host(model, folder, options.threshold)
            presence = PRESENCE if options.presence is None else options.presence
            done = infer_host(made, folder, images, out, runtime, presence=presence)
        else:
            done = infer_segmenter(_segmenter(model), folder, images, out, runtime)
        every = len(images.ids("val"))
        for number, _ in enumerate(done, start=1):
            if number % SAID_EVERY == 0:
                print(f"{number} of {many(every, 'image')}", file=sys.stderr, flush=True)
    print(f"{many(every, 'image')} in {options.out}")
    for path, why in images.left_out.items():
        print(f"left out: {path}: {why}")
    return 0


def _read(folder: Path) -> dict[str, Any]:
    from aream.data.files import read_bounded
    from workers.components import WEIGHTS_FILE
    from workers.files.model_export import HOST, MODEL_FILE, SEGMENTER

    path = folder / MODEL_FILE
    try:
        model = json.loads(read_bounded(path))
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(model, dict) or model.get("kind") not in (HOST, SEGMENTER):
        raise ConfigError(f"{path}: need what `aream artifacts export --what weights` or `segmenter` wrote")
    classes = model.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"{path}: classes: need a list of names")
    if not (folder / WEIGHTS_FILE).is_file():
        raise ConfigError(f"{folder / WEIGHTS_FILE}: no such file")
    return model


def _host(model: dict[str, Any], folder: Path, threshold: float | None) -> HostModel:
    from aream.infer import CamInference
    from aream.labels.pseudo_labels import LabelsConfig
    from aream.refiners.protocol import network_of
    from orchestrator.spec.recorded import recorded, recorded_component
    from workers.components import WEIGHTS_FILE
    from workers.inference import HostModel

    labels = recorded(LabelsConfig, model["labels"], "labels")
    if network_of(labels.refiner) is not None:
        raise ConfigError(f"labels.refiner: {labels.refiner.name} has a network of its own, which no export holds")
    own = {"weights": str(folder / WEIGHTS_FILE), "weights_key": None}  # no other file is asked for
    weights = {key: value for key, value in own.items() if key in model["backbone"]["config"]}
    method = model["method"]
    return HostModel(
        backbone=recorded_component("aream.backbones", model["backbone"], "backbone", **weights),
        method=None if method is None else recorded_component("aream.methods", method, "method"),
        train_image_size=int(model["train_image_size"]),
        precision=str(model["precision"]),
        cams=recorded(CamInference, model["cams"], "cams"),
        layers=tuple(int(layer) for layer in model["layers"]),
        labels=labels,
        threshold=float(model["threshold"]) if threshold is None else threshold,
    )


def _segmenter(model: dict[str, Any]) -> SegmenterModel:
    from aream.segmentation.config import SegmentationEvaluation
    from orchestrator.spec.recorded import recorded, recorded_component
    from workers.inference import SegmenterModel

    return SegmenterModel(
        model=recorded_component("aream.segmenters", model["model"], "model", weights=None),
        crop=int(model["crop"]),
        evaluate=recorded(SegmentationEvaluation, model["evaluate"], "evaluate"),
        precision=str(model["precision"]),
    )


if __name__ == "__main__":
    run(main)
