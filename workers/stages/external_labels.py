"""Pseudo-labels made elsewhere, brought into the store with an identity of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aream.config import Component, config, location
from aream.data._files import read_bounded
from aream.data._protocol import IGNORE, Dataset
from aream.errors import DataError
from aream.metrics import confusion_matrix, mean_iou
from workers.components import build_dataset
from workers.label_files import read_labels, write_labels
from workers.locations import local_path
from workers.stage import Row, StageContext
from workers.stages.pseudo_label import LABELS_FOLDER, MIOU, MIOU_ALL

VERSION = 1
METRICS = (MIOU, MIOU_ALL)


@config
class Config:
    data: Component
    folder: str = location()
    """Holds ``ID.png`` for every train image; identified by its content."""


def run(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> Row:
    dataset, folder = build_dataset(config.data), Path(local_path(config.folder))
    classes = len(dataset.class_names) + 1
    confusion = np.zeros((classes, classes), dtype=np.int64)
    (out / LABELS_FOLDER).mkdir()
    for image_id in context.watched(dataset.ids("train")):
        labels = _checked(folder / f"{image_id}.png", dataset, image_id, classes)
        mask = dataset.mask(image_id)
        if mask is not None:
            confusion += confusion_matrix(np.where(labels == IGNORE, 0, labels), mask, classes)
        write_labels(out / LABELS_FOLDER / f"{image_id}.png", labels)
    return {
        "pseudo/miou": mean_iou(confusion, dataset.scored_classes),
        "pseudo/miou_all": mean_iou(confusion, None),
    }


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


def _checked(path: Path, dataset: Dataset, image_id: str, classes: int) -> np.ndarray:
    labels = read_labels(path)
    width, height = dataset.image(image_id).size
    if labels.shape != (height, width):
        raise DataError(f"{path}: size {labels.shape[::-1]} is not the image's {(width, height)}")
    wrong = sorted({int(value) for value in np.unique(labels)} - {*range(classes), IGNORE})
    if wrong:
        raise DataError(f"{path}: label ids {wrong} are out of range; allowed are 0..{classes - 1} and {IGNORE}")
    return labels
