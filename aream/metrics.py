"""Confusion matrices, mIoU in [0, 1], mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from aream.errors import DataError

BACKGROUND = 0
"""Class id of the background in every mask and pseudo-label."""
IGNORE = 255
"""Mask value of pixels that no loss and no metric counts."""
LEAST_CLASSES = 2
"""Least number of classes that a mean IoU is taken over: of one class alone, such as the background, it is no mean and
near 1 of itself."""
AbsentClasses = Literal["skip", "zero"]


def confusion_matrix(
    prediction: Integer[np.ndarray, "*s"], target: Integer[np.ndarray, "*s"], classes: int
) -> Int64[np.ndarray, "k k"]:
    """Pixel counts, rows ground truth, columns prediction; pixels whose ground truth is 255 are left out.

    64-bit: the pixels of COCO do not fit in the 32-bit counters that published evaluations use.
    """
    counted = target != IGNORE
    pairs = target[counted].astype(np.int64) * classes + prediction[counted]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def class_iou(confusion: Int64[np.ndarray, "k k"]) -> Float64[np.ndarray, " k"]:
    """TP / (TP + FP + FN + 1e-10) of every class; NaN for one in neither the ground truth nor the prediction."""
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return np.where(union > 0, hits / (union + 1e-10), np.nan)


def mean_iou(
    confusion: Int64[np.ndarray, "k k"],
    classes: Sequence[int] | None = None,
    absent: AbsentClasses = "skip",
) -> float:
    """Mean IoU over ``classes`` (None: all).

    Args:
        absent: classes without a pixel in the ground truth are left out (``skip``, AFA), or count as their IoU, 0
            (``zero``, MCTformer and AReAM).

    Raises:
        DataError: fewer than two of the classes have a pixel in the ground truth: nothing to take a mean of.
    """
    chosen = list(range(len(confusion))) if classes is None else list(classes)
    ious, there = np.nan_to_num(class_iou(confusion))[chosen], confusion.sum(axis=1)[chosen] > 0
    if there.sum() < LEAST_CLASSES:
        found = [chosen[index] for index in np.flatnonzero(there)]
        raise DataError(
            f"a mean IoU over the mask ids {chosen[:100]} needs pixels of {LEAST_CLASSES} of them in the ground truth, "
            f"which has {found or 'none'}"
        )
    return float((ious[there] if absent == "skip" else ious).mean())


def counted_classes(confusion: Int64[np.ndarray, "k k"], classes: Sequence[int] | None = None) -> int:
    """Return how many of the ``classes`` (None: all) have a pixel in the ground truth: what a mean over them rests
    on."""
    there = confusion.sum(axis=1) > 0
    return int((there if classes is None else there[list(classes)]).sum())


def pixel_accuracy(confusion: Int64[np.ndarray, "k k"]) -> float:
    """Share of the counted pixels that are right.

    Raises:
        DataError: no pixel is counted.
    """
    counted = int(confusion.sum())
    if not counted:
        raise DataError("a pixel accuracy needs ground truth: no pixel of any mask is counted")
    return float(np.trace(confusion)) / counted


def mean_average_precision(scores: Float[np.ndarray, "n c"], labels: Float[np.ndarray, "n c"]) -> float:
    """Average precision of each class that has a positive image, averaged over these classes.

    Images of equal score enter together, as one step of the precision-recall curve.

    Raises:
        DataError: no class has a positive image.
    """
    precisions = []
    for score, label in zip(scores.T, labels.T > 0, strict=True):
        if not label.any():
            continue
        order = np.argsort(-score, kind="stable")
        hits = np.cumsum(label[order])
        last_of_ties = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
        precision = hits[last_of_ties] / (last_of_ties + 1)
        recall = hits[last_of_ties] / hits[-1]
        precisions.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    if not precisions:
        raise DataError(f"a mean average precision needs a label: none of {len(labels)} images has any of the classes")
    return float(np.mean(precisions))
