"""Every metric that a sweep may have, by name: those of its stages, and what its results cost."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from aream.config import Component
from workers.metric import Better, Listed, Metric, found, listed, of_stage
from workers.trial import TrialConfig

TRAINING = "train_cam"
OF_A_CONFIGURATION = (TRAINING, "infer_cam", "pseudo_label")
"""Stages whose metrics a ranked configuration has, beside its analyses'."""
DOWNSTREAM = "eval_seg"


@functools.cache
def every() -> tuple[Listed, ...]:
    """All of them, in the order of a table's columns: training, labels, what is made from them, cost."""
    order = (*OF_A_CONFIGURATION, DOWNSTREAM)
    first = [Listed(metric, stage) for stage in order for metric in of_stage(stage)]
    return (*first, *(Listed(metric, "") for metric in COST), *(entry for entry in listed() if entry not in first))


@functools.cache
def known(name: str) -> Metric | None:
    """The metric of a name, whichever stage makes it."""
    entry = found(name, every())
    return None if entry is None else entry.metric


def better(name: str) -> Better | None:
    """Return "max" or "min", the good end of a metric; None if it has none or is unknown."""
    metric = known(name)
    return None if metric is None else metric.better


def results(trial: TrialConfig, analyses: Iterable[Component]) -> list[str]:
    """Metrics of a ranked configuration before any segmenter is trained."""
    return [name for metric in _of_a_configuration(analyses) if metric.result for name in metric.names(trial)]


def every_epoch(trial: TrialConfig) -> list[str]:
    """Metrics that a training reports every epoch."""
    return [name for metric in of_stage(TRAINING) if metric.epochs for name in metric.names(trial)]


def downstream() -> list[str]:
    """Metrics of the segmenter trained on the labels of a configuration."""
    return [metric.name for metric in of_stage(DOWNSTREAM)]


def columns(*shown: str) -> list[str]:
    """The names that have a column of their own, in order."""
    return [entry.metric.name for entry in every() if entry.metric.shown in shown and _has_columns(entry)]


def of_training() -> list[str]:
    """Metrics shown of a training while it runs."""
    return [metric.name for metric in of_stage(TRAINING) if metric.epochs and metric.shown == "always"]


def of_segmentation() -> list[str]:
    """Metrics shown of a trained segmenter."""
    return [metric.name for metric in of_stage(DOWNSTREAM) if metric.shown == "always"]


def selected(name: str) -> str:
    """Name a training's result so that it differs from the curve of the same metric over its epochs."""
    metric = known(name)
    return f"selected/{name}" if metric is not None and metric.epochs else name


def number(name: str, value: float | None, spread: float | None = None) -> str:
    """A metric for a table cell; seconds with fewer decimals than shares."""
    if value is None:
        return ""
    metric = known(name)
    decimals = 1 if metric is not None and metric.unit == "s" else 4
    return f"{value:.{decimals}f} ± {spread:.{decimals}f}" if spread else f"{value:.{decimals}f}"


def _of_a_configuration(analyses: Iterable[Component]) -> list[Metric]:
    stages = (*OF_A_CONFIGURATION, *(analysis.name for analysis in analyses))
    return [*(metric for stage in stages for metric in of_stage(stage)), *COST]


def _has_columns(entry: Listed) -> bool:
    return entry.stage in ("", DOWNSTREAM, *OF_A_CONFIGURATION)


SECONDS, GPU_SECONDS = "cost/seconds", "cost/gpu_seconds"


COST = (
    Metric(
        SECONDS, "worker seconds of everything the labels were computed from, shared stages in full", "s", "min",
        shown="report",
    ),
    Metric(GPU_SECONDS, "the same at the trials' share of a GPU", "s", "min", shown="report"),
)  # fmt: skip


FIELD_NAMES = {
    "pseudo/miou": "pseudo-label mIoU",
    "pseudo/miou_all": "pseudo-label mIoU, all classes",
    "pseudo/threshold": "background threshold",
    "cam/miou": "CAM mIoU",
    "seg/miou": "segmenter mIoU",
    "seg/miou_all": "segmenter mIoU, all classes",
    "val/map": "val mAP",
    "val/map_image": "val mAP, by image",
    SECONDS: "worker time (s)",
    GPU_SECONDS: "GPU time (s)",
}


def called(name: str) -> str:
    """The field's name of a metric; its own where the field has none."""
    return FIELD_NAMES.get(name, name)


def percent(name: str) -> float:
    """What a figure multiplies a metric by: shares are drawn in percent."""
    metric = known(name)
    return 100.0 if metric is not None and metric.unit == "share" and not name.endswith("threshold") else 1.0


def axis_label(name: str) -> str:
    """A metric at an axis of a figure."""
    return f"{called(name)} (%)" if percent(name) != 1 else called(name)
