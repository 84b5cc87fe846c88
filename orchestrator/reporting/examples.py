"""Which images a report shows: best, median and worst by IoU, and those on which two configurations differ most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aream.data.dataset import Dataset
from aream.errors import AreamError
from aream.metrics import class_iou, confusion_matrix
from orchestrator.reporting.panels import Scores
from workers.files.labels import read_labels
from workers.stages.pseudo_label import LABELS_FOLDER

EACH = 2
"""Images of a kind."""


@dataclass(frozen=True)
class Example:
    image_id: str
    kind: str


def image_scores(folder: Path, dataset: Dataset, ids: list[str]) -> Scores:
    """IoU of the labels in an artifact's folder for those of the images that have a mask and a label."""
    found = {}
    for image_id in ids:
        path = folder / LABELS_FOLDER / f"{image_id}.png"
        try:
            mask = dataset.mask(image_id) if path.is_file() else None
            labels = read_labels(path) if mask is not None else None
        except (AreamError, OSError):  # moved away since; a report shows what is there
            continue
        if mask is not None and labels is not None and labels.shape == mask.shape:
            found[image_id] = class_iou(confusion_matrix(labels, mask, len(dataset.class_names) + 1))
    return found


def chosen(best: Scores, other: Scores | None) -> list[Example]:
    """Each image once, in the order in which it is shown.

    Args:
        best: of the configuration that is shown.
        other: of the one that it is compared with.
    """
    order = sorted(best, key=lambda image_id: (-float(np.nanmean(best[image_id])), image_id))
    middle = max(0, len(order) // 2 - EACH // 2)
    kinds = {
        "best": order[:EACH],
        "median": order[middle : middle + EACH],
        "worst": order[::-1][:EACH],
        "differ": _differing(best, other) if other is not None else [],
    }
    shown: dict[str, str] = {}
    for kind, ids in kinds.items():
        for image_id in ids:
            shown.setdefault(image_id, kind)
    return [Example(image_id, kind) for image_id, kind in shown.items()]


def _differing(best: Scores, other: Scores) -> list[str]:
    gaps = {
        image_id: abs(float(np.nanmean(best[image_id]) - np.nanmean(other[image_id])))
        for image_id in best
        if image_id in other
    }
    ordered = sorted(gaps, key=lambda image_id: (-gaps[image_id], image_id))
    return [image_id for image_id in ordered if gaps[image_id] > 0][: 2 * EACH]


def compared_with(content: Mapping[str, Any]) -> int | None:
    """Position of the configuration that the best one is compared with: the first that seed noise tells from it, else
    the second; None where there is none."""
    count = len(content["ranking"])
    tied = content.get("answer", {}).get("ties", {}).get("positions", [0])
    return next((position for position in range(1, count) if position not in tied), 1 if count > 1 else None)
