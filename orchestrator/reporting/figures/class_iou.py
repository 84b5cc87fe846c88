"""IoU of each class: the CAM before refinement, the pseudo-labels, the segmenter trained on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.reporting.drawing import new_figure, read_file, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from workers.artifacts.store import ArtifactStore
from workers.stages.eval_seg import IOU_FILE

PLACE = 32
SOURCES = {"CAM": "#7a828c", "pseudo-label": "C0", "segmenter (val)": "C1"}
BACKGROUND = "background"
SORTED_BY = "pseudo-label"
ROW, APART = 0.27, 0.24
"""Height of a class, in inches, and the distance between the sources in it, as a share of that."""


def draw(results: FigureInput, folder: Path) -> Drawn:
    """Of the best configuration, mean over seeds; nothing without train masks."""
    content = results.content
    if not content["ranking"] or "data" not in content:
        return []
    entry, names = content["ranking"][0], [BACKGROUND, *content["data"]["classes"]]
    values = {source: found for source, found in _values(content, entry, names, results.store).items() if len(found)}
    if not values:
        return []
    means = {source: _mean(found) for source, found in values.items()}
    by = means.get(SORTED_BY, next(iter(means.values())))
    there = [index for index in range(len(names)) if any(np.isfinite(mean[index]) for mean in means.values())]
    order = sorted(there, key=lambda index: -np.nan_to_num(by[index], nan=-1.0))
    figure, axes = new_figure(6.4, 1.0 + ROW * len(order))
    rows: list[list[Any]] = []
    for number, (source, mean) in enumerate(means.items()):
        at = np.array([mean[index] for index in order]) * 100
        spread = np.array([_spread(values[source], index) for index in order]) * 100
        height = np.arange(len(order)) + APART * (number - (len(means) - 1) / 2)
        axes.errorbar(at, height, xerr=spread, fmt="o", color=SOURCES[source], label=source, markersize=4.5)
        rows += [[names[index], source, mean[index], _spread(values[source], index)] for index in order]
    axes.set_yticks(range(len(order)), [names[index] for index in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("IoU (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(means))
    path = save(figure, folder / "class_iou.png", ["class", "of", "IoU", "std"], rows)
    caption = (
        "IoU of each class for the best configuration, mean over seeds; bars: sample standard deviation. CAM and "
        "pseudo-labels on train images with masks, the segmenter on val."
    )
    return [(path, caption)]


def _values(
    content: Mapping[str, Any], entry: Mapping[str, Any], names: Sequence[str], store: ArtifactStore
) -> dict[str, np.ndarray]:
    """Source -> IoU by seed and class, NaN where a class is in neither ground truth nor prediction."""
    keys = list(entry.get("label_artifacts", {}).values()) or [entry["label_artifact"]]
    curves = [json.loads(text) for key in keys if (text := read_file(store, key, "curve.json")) is not None]
    jobs = [job["key"] for job in content.get("segmentation", ()) if job["rank"] == 0 and job["metrics"]]
    tables = [json.loads(text) for key in jobs if (text := read_file(store, key, IOU_FILE)) is not None]
    return {
        "CAM": _table([curve["unrefined"].get("class_iou") for curve in curves], len(names)),
        "pseudo-label": _table([curve["refined"].get("class_iou") for curve in curves], len(names)),
        "segmenter (val)": _table([[table.get(name) for name in names] for table in tables], len(names)),
    }


def _table(rows: Sequence[Sequence[float | None] | None], width: int) -> np.ndarray:
    kept = [row for row in rows if row is not None and len(row) == width and any(value is not None for value in row)]
    return np.array([[np.nan if value is None else value for value in row] for row in kept])


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the seeds that have a class; NaN where none has it."""
    counted = np.isfinite(values).sum(0)
    return np.where(counted > 0, np.nansum(values, axis=0) / np.maximum(counted, 1), np.nan)


def _spread(values: np.ndarray, index: int) -> float:
    own = values[:, index][np.isfinite(values[:, index])]
    return float(own.std(ddof=1)) if len(own) > 1 else 0.0
