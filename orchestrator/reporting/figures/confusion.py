"""Confusion of the best configuration's pseudo-labels with the ground truth, and false positives and negatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from orchestrator.reporting.drawing import readable, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.reporting.label_errors import label_confusion

PLACE = 34
CELL = 0.3
"""Side of a cell, in inches."""
WRITTEN = 12
"""Classes up to which cells hold their numbers."""
MOST_CLASSES = 40
"""Classes shown: those with the most pixels."""


def draw(results: FigureInput, folder: Path) -> Drawn:
    """Of the best configuration's best seed; nothing without masks and labels."""
    ranking, dataset = results.content["ranking"], results.dataset
    labels = readable(results.store, ranking[0]["label_artifact"]) if ranking and dataset is not None else None
    if labels is None or dataset is None:
        return []
    counts, images = label_confusion(labels, dataset)
    shown = [index for index in np.argsort(-counts.sum(1), kind="stable") if counts[index].sum()][:MOST_CLASSES]
    if len(shown) < 2:
        return []
    names = [["background", *dataset.class_names][index] for index in shown]
    truth = counts.sum(1)[shown]
    shares = 100 * counts[np.ix_(shown, shown)] / truth[:, None]
    side = 1.6 + CELL * len(shown)
    figure = Figure(figsize=(2 * side + 0.6, side))
    matrix, errors = figure.subplots(1, 2, width_ratios=(1, 0.8))
    _matrix(figure, matrix, shares, names)
    hits = np.diag(counts)[shown]
    false = {"false positives": (counts.sum(0)[shown] - hits) / truth, "false negatives": (truth - hits) / truth}
    _bars(errors, false, names)
    rows: list[list[Any]] = [
        [name, *row, *(part[at] for part in false.values())]
        for at, (name, row) in enumerate(zip(names, shares / 100, strict=True))
    ]
    path = save(figure, folder / "confusion.png", ["ground truth", *names, *false], rows)
    caption = (
        f"Pseudo-labels of the best configuration, best seed, against the ground truth of {images} train images. Left: "
        "share of a class's pixels by the label that they got. Right: pixels wrongly given to a class, and its pixels "
        "that were missed, as shares of its pixels in the ground truth."
    )
    return [(path, caption)]


def _matrix(figure: Figure, axes: Any, shares: np.ndarray, names: list[str]) -> None:
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="cividis")
    axes.grid(visible=False)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("pseudo-label")
    axes.set_ylabel("ground truth")
    figure.colorbar(image, ax=axes, label="share of the class's pixels (%)", shrink=0.8)
    if len(names) > WRITTEN:
        return
    for (row, column), value in np.ndenumerate(shares):
        colour = "black" if value > 60 else "white"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=7)


def _bars(axes: Any, false: dict[str, np.ndarray], names: list[str]) -> None:
    height = 0.38
    for index, (name, shares) in enumerate(false.items()):
        at = np.arange(len(names)) + (index - 0.5) * height
        axes.barh(at, 100 * shares, height, label=name, color=("C1", "C0")[index])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the class's pixels (%)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
