"""Pseudo-labels made elsewhere, brought into the store with an identity of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aream.config import Component, config, location
from aream.data.dataset import Dataset
from aream.data.files import read_bounded
from aream.data.findings import Findings
from aream.data.label_maps import check_label_maps
from aream.metrics import IGNORE, confusion_matrix, counted_classes, mean_iou
from workers.components import build_dataset
from workers.files.labels import read_labels, write_labels
from workers.processes.hardware import Part
from workers.stage import Row, StageContext
from workers.stages.pseudo_label import CLASSES, LABELS_FOLDER, MIOU, MIOU_ALL
from workers.staging.locations import local_path

VERSION = 2
COMPUTES_ON: tuple[Part, ...] = ()
METRICS = (MIOU, MIOU_ALL, CLASSES)


@config
class Config:
    data: Component
    folder: str = location()
    """Holds ``ID.png`` for every train image; identified by its content."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    """
    Raises:
        DataError: labels that cannot be used.
    """
    dataset, folder = build_dataset(config.data), Path(local_path(config.folder))
    found = Findings(strict=True)
    check(str(folder), dataset, found)
    found.settle()
    classes = len(dataset.class_names) + 1
    confusion = np.zeros((classes, classes), dtype=np.int64)
    (out / LABELS_FOLDER).mkdir()
    for image_id in context.watched(dataset.ids("train")):
        labels = read_labels(folder / f"{image_id}.png")
        mask = dataset.mask(image_id)
        if mask is not None:
            confusion += confusion_matrix(np.where(labels == IGNORE, 0, labels), mask, classes)
        write_labels(out / LABELS_FOLDER / f"{image_id}.png", labels)
    if not confusion.any():  # no train image has a mask: nothing is known of the labels' quality
        return {}
    return {
        "pseudo/miou": mean_iou(confusion, dataset.scored_classes),
        "pseudo/miou_all": mean_iou(confusion, None),
        "pseudo/classes": float(counted_classes(confusion, dataset.scored_classes)),
    }


def check(folder: str, dataset: Dataset, found: Findings) -> None:
    """Add what is wrong with the labels."""
    check_label_maps(dataset, lambda image_id: read_labels(Path(folder) / f"{image_id}.png"), found)


def fingerprint(folder: str, dataset: Dataset) -> str:
    """Identity of the labels of the train images.

    Raises:
        DataError: the folder or a label is missing.
    """
    digest = hashlib.sha256()
    for image_id in dataset.ids("train"):
        path = Path(folder) / f"{image_id}.png"
        content = read_bounded(path)
        digest.update(image_id.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()
