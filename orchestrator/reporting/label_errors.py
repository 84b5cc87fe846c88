"""Where pseudo-labels are wrong: the confusion with the ground truth of train images, from stored labels and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from aream.data.dataset import Dataset
from aream.errors import AreamError
from aream.metrics import confusion_matrix
from workers.files.labels import read_labels
from workers.stages.pseudo_label import LABELS_FOLDER

MOST_IMAGES = 1500
"""Images counted, spread over the train list: those of VOC's masks all."""


def label_confusion(folder: Path, dataset: Dataset) -> tuple[Int64[np.ndarray, "k k"], int]:
    """Pixel counts, rows ground truth, columns pseudo-label, and the number of images counted.

    Args:
        folder: the labels' artifact.
    """
    classes, counted = len(dataset.class_names) + 1, 0
    total = np.zeros((classes, classes), dtype=np.int64)
    for image_id in _spread(list(dataset.ids("train")), MOST_IMAGES):
        path = folder / LABELS_FOLDER / f"{image_id}.png"
        if not path.is_file():
            continue
        try:
            mask = dataset.mask(image_id)
            labels = read_labels(path)
        except (AreamError, OSError):  # moved away since; a report says what is there
            continue
        if mask is None or mask.shape != labels.shape:
            continue
        total += confusion_matrix(labels, mask, classes)
        counted += 1
    return total, counted


def _spread(ids: Sequence[str], most: int) -> Sequence[str]:
    return ids[:: -(-len(ids) // most) or 1]
