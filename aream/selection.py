"""Selection of the epoch whose weights a training keeps, and the metric that an epoch is judged by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from aream.data.dataset import Dataset
from aream.errors import DataError
from aream.train_config import TrainConfig

MAPS = {"image": "val/map_image", "class": "val/map"}
"""The metric that ``select_by`` names."""
NAMES = {"val/map_image": "mAP of images", "val/map": "mAP of classes", "epoch": "number of the epoch"}
CONSTANT = {
    "image": "each val image shows all of the scored classes or none",
    "class": "each scored class is shown by all of the val images or by none",
}


def scored_labels(dataset: Dataset) -> Bool[np.ndarray, "images c"]:
    """Return which scored classes each val image shows.

    Raises:
        DataError: none of them shows any, so that no precision can be told.
    """
    scored = [mask_id - 1 for mask_id in dataset.scored_classes if mask_id > 0]
    shown = np.array([dataset.labels(image_id) for image_id in dataset.ids("val")]).reshape(
        -1, len(dataset.class_names)
    )
    labels: Bool[np.ndarray, "images c"] = shown[:, scored] > 0
    if not labels.any():
        raise DataError(
            f"val: none of the {len(labels)} images shows a scored class, so that no mean average precision can be "
            "told; need image labels of the val split, or other scored_classes"
        )
    return labels


def judge(config: TrainConfig, labels: Bool[np.ndarray, "images c"]) -> str:
    """The metric of an epoch that is best: the one asked for, the other where that is 1 whatever the network says, and
    the number of the epoch, so that the last is kept, where both are."""
    varies = {"image": _mixed(labels), "class": _mixed(labels.T)}
    return next((MAPS[by] for by in (config.select_by, _other(config)) if varies[by]), "epoch")


def remark(config: TrainConfig, labels: Bool[np.ndarray, "images c"]) -> str | None:
    """Return what to tell whoever asked for another judge; None where epochs are judged as asked."""
    asked, found = MAPS[config.select_by], judge(config, labels)
    if config.select == "last" or config.epochs == 0 or found == asked:
        return None
    because = " and ".join(CONSTANT[by] for by in (config.select_by, _other(config)) if MAPS[by] != found)
    return (
        f"train.select_by: given {config.select_by}, but the {NAMES[asked]} is the same in every epoch ({because}); "
        f"the epoch kept is the one of the highest {NAMES[found]}"
    )


def rank(row: Mapping[str, float], judged_by: str) -> tuple[float, float, float]:
    """Return what epochs are compared by, higher is better: ties go to the better mAP of classes, then to the later
    epoch."""
    return row[judged_by], row["val/map"], row["epoch"]


def _other(config: TrainConfig) -> str:
    return "class" if config.select_by == "image" else "image"


def _mixed(rows: Bool[np.ndarray, "m n"]) -> bool:
    """Return True if some row has both, so that an order can be right or wrong."""
    return bool((rows.any(axis=1) & ~rows.all(axis=1)).any())
