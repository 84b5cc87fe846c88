"""From a trained host to label PNGs, one scale with flip, against the host's bare forward passes over the same images.

Ours are the stages ``infer_cam`` and ``pseudo_label`` as they run in a trial: images read, CAMs refined by every layer
and stored, layers combined, thresholds searched, PNGs written; no image refinement comes between.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from aream.backbones import mctformer_v2
from aream.config import Component
from aream.datasets import shapes
from aream.images import to_tensor
from aream.infer import CamInference
from aream.labels.pseudo_labels import LabelsConfig
from benchmarks.measure import CPU, Kind, Result, median_seconds
from workers.checkpoint import NoCheckpoint
from workers.components import WEIGHTS_FILE, build_backbone, build_dataset
from workers.processes.runtime import Runtime
from workers.stage import StageContext
from workers.stages import infer_cam, pseudo_label

IMAGES, SIDE, REPEATS = 200, 224, 2
MOST = {"cpu": 2.0, "cuda": 1.5}
"""Multiples of the bare passes."""
DATA = Component(name="shapes", config=shapes.Config(image_size=SIDE, train_images=IMAGES, val_images=1))
HOST = Component(name="mctformer_v2", config=mctformer_v2.Config(vit="vit_tiny_patch16_224"))

KIND: Kind = "cpu"


def measure(device: torch.device = CPU) -> list[Result]:
    dataset = build_dataset(DATA)
    torch.manual_seed(0)
    host = build_backbone(HOST, len(dataset.class_names), SIDE)
    tensors = [to_tensor(dataset.image(image_id), host.mean, host.std)[None] for image_id in dataset.ids("train")]
    context = StageContext(Runtime(gpu=device.type == "cuda"), NoCheckpoint(), lambda row: None, lambda: False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        save_file(host.state_dict(), root / WEIGHTS_FILE)
        host.to(device).eval()
        written: list[Path] = []

        def ours() -> None:
            written.append(_labels(root, context))

        def bare() -> None:
            with torch.no_grad():
                for image in tensors:
                    on_device = image.to(device)
                    host(on_device)
                    host(on_device.flip(-1))

        spent = median_seconds({"ours": ours, "bare": bare}, REPEATS, device)
        labels = len(list(written[-1].glob("*.png")))
    most, cost = MOST[device.type], spent["ours"] / spent["bare"]
    return [
        Result(
            name="inference" if device.type == "cpu" else f"inference_{device.type}",
            unit="CPU s" if device.type == "cpu" else "s",
            ours=spent["ours"],
            baseline=spent["bare"],
            required=round(1 / most, 4),
            input=f"{IMAGES} drawn images, {SIDE} px, {len(dataset.class_names)} classes, ViT-Ti/16, scale 1 with flip",
            same=labels == IMAGES,
            difference=f"{cost:.2f}x the bare forward passes, at most {most:g}x; {labels} label PNGs",
        )
    ]


def _labels(root: Path, context: StageContext) -> Path:
    """The folder of PNGs."""
    cams, out = (Path(tempfile.mkdtemp(dir=root)) for _ in range(2))
    config = infer_cam.Config(
        data=DATA, backbone=HOST, train_image_size=SIDE, cams=CamInference(scales=(1.0,), flip=True), precision="fp32"
    )
    infer_cam.run(config, {"host": root}, cams, context)
    layers = tuple(range(mctformer_v2.shape(HOST.config)[0]))
    pseudo_label.run(pseudo_label.Config(data=DATA, layers=layers, labels=LabelsConfig()), {"cams": cams}, out, context)
    return out / pseudo_label.LABELS_FOLDER
