"""Score a folder of labels, predictions or CAMs against a dataset's masks.

PNGs hold class ids, as palette or grey. `.npy` files hold CAMs as PSA, IRN, MCTformer and AReAM write them; their
background threshold is searched, or given. Nothing is trained, and no sweep is needed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aream.errors import ConfigError
from orchestrator.console.command import command, run
from orchestrator.console.parser import add_overrides
from orchestrator.text import many

if TYPE_CHECKING:
    from workers.evaluation import Evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds ID.png or ID.npy of every image")
    parser.add_argument(
        "--data", required=True, metavar="NAME|SWEEP.yaml", help="the dataset, or a sweep file that names it"
    )
    parser.add_argument("--root", metavar="DIR", help="the folder it lies in (data.root)")
    add_overrides(parser)
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose images (default: train)")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="of the background, for CAMs (default: the best of 0.01, 0.02, ... 0.79)",
    )
    parser.add_argument(
        "--absent-classes",
        choices=("skip", "zero"),
        default="skip",
        help="of the mean (default: skip; MCTformer: zero)",
    )
    parser.add_argument("--partial", action="store_true", help="leave out images that the folder has nothing for")
    parser.add_argument("--confusion", type=Path, metavar="FILE", help="write the confusion matrix, in pixels, as CSV")
    parser.add_argument("--json", action="store_true", help="the same for scripts")


@command(
    add_arguments,
    """
%(prog)s labels --data mine/sweep.yaml
%(prog)s predictions --data voc2012 --root VOCdevkit/VOC2012 --split val
%(prog)s cam_npy --data voc2012 --root VOCdevkit/VOC2012 --absent-classes zero
""",
)
def main(options: argparse.Namespace) -> int:
    from aream.labels.pseudo_labels import LabelsConfig, ThresholdRule
    from orchestrator.spec.named_data import named_data
    from workers.components import build_dataset
    from workers.evaluation import evaluate_folder

    if options.threshold is not None and not 0 < options.threshold < 1:
        raise ConfigError(f"--threshold: need a number in (0, 1), got {options.threshold:g}")
    dataset = build_dataset(named_data(options.data, options.root, options.set))
    rule: ThresholdRule | float = "auto" if options.threshold is None else float(options.threshold)
    labels = LabelsConfig(background_threshold=rule, absent_classes=options.absent_classes)
    found = evaluate_folder(options.folder, dataset, options.split, labels, partial=options.partial)
    names = ["background", *dataset.class_names]
    if options.confusion is not None:
        _write_confusion(options.confusion, found, names)
    print(
        json.dumps(_plain(found, names), indent=1)
        if options.json
        else _text(found, names, options.split, options.threshold is None)
    )
    return 0


def _text(found: Evaluation, names: Sequence[str], split: str, searched: bool) -> str:
    width = max(len(name) for name in names)
    shown = zip(names, found.class_iou, strict=True)
    lines = [f"{name:<{width}}  {'' if iou is None else f'{iou:.4f}'}".rstrip() for name, iou in shown]
    lines += [
        f"mIoU {found.miou:.4f} over {many(found.classes, 'scored class')}, {found.miou_all:.4f} over all; "
        f"{found.pixel_accuracy:.4f} of the pixels right; {many(found.images, f'{split} image')} with a mask"
    ]
    if found.threshold is not None:
        how = ", the best of those tried on these masks" if searched else ""
        lines.append(f"background threshold {found.threshold:g}{how}")
    lines += [f"not scored, no file: {image_id}" for image_id in found.without]
    return "\n".join(lines)


def _plain(found: Evaluation, names: Sequence[str]) -> dict[str, object]:
    return {
        "miou": found.miou,
        "miou_all": found.miou_all,
        "classes": found.classes,
        "pixel_accuracy": found.pixel_accuracy,
        "class_iou": dict(zip(names, found.class_iou, strict=True)),
        "images": found.images,
        "without": list(found.without),
        "threshold": found.threshold,
        "curve": [list(point) for point in found.curve],
        "confusion": found.confusion.tolist(),
    }


def _write_confusion(path: Path, found: Evaluation, names: Sequence[str]) -> None:
    """A row a class of the mask, a column a class of the label."""
    from workers.processes.atomic_write import write_text

    text = io.StringIO()
    rows = [[name, *row] for name, row in zip(names, found.confusion.tolist(), strict=True)]
    csv.writer(text, lineterminator="\n").writerows([["mask \\ label", *names], *rows])
    write_text(path, text.getvalue())


if __name__ == "__main__":
    run(main)
