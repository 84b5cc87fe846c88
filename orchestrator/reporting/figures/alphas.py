"""The two alphas against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.reporting.drawing import new_figure, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput

PLACE = 50


MOST_CELLS = 10
"""Values of an alpha axis that a heat map has room for."""


ALPHAS = ("method.alpha_low", "method.alpha_high")


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A heat map, or points of a search; needs two values of an alpha axis."""
    path = _heatmap(results.content, folder)
    caption = f"mean {results.content['rank']['metric']} over seeds for the two alphas, best variant of each"
    return [] if path is None else [(path, caption)]


def _heatmap(content: Mapping[str, Any], folder: Path) -> Path | None:
    """Needs at least two values of an alpha axis."""
    metric = content["rank"]["metric"]
    best: dict[tuple[float, float], float] = {}
    for entry in content["ranking"]:  # best first: the first of a cell is its best variant
        if all(key in entry["config"] for key in ALPHAS) and metric in entry["metrics"]:
            best.setdefault(tuple(entry["config"][key] for key in ALPHAS), entry["metrics"][metric])
    lows, highs = sorted({low for low, _ in best}), sorted({high for _, high in best})
    if len(lows) * len(highs) < 2:
        return None
    if max(len(lows), len(highs)) > MOST_CELLS:
        return _points(best, metric, folder)
    grid = np.array([[best.get((low, high), np.nan) for high in highs] for low in lows])
    figure, axes = new_figure(2.2 + 0.9 * len(highs), 1.4 + 0.7 * len(lows))
    image = axes.imshow(grid, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(highs)), [f"{high:g}" for high in highs])
    axes.set_yticks(range(len(lows)), [f"{low:g}" for low in lows])
    axes.set_xlabel("alpha_high")
    axes.set_ylabel("alpha_low")
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = "black" if image.norm(value) > 0.6 else "white"
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label=metric)
    return save(figure, folder / "alphas.png")


def _points(best: Mapping[tuple[float, float], float], metric: str, folder: Path) -> Path:
    """Draw a search's points, which lie on no grid."""
    figure, axes = new_figure(6, 4.5)
    lows, highs = zip(*best, strict=True)
    points = axes.scatter(highs, lows, c=list(best.values()), cmap="viridis", s=28)
    axes.set_xlabel("alpha_high")
    axes.set_ylabel("alpha_low")
    figure.colorbar(points, label=metric)
    return save(figure, folder / "alphas.png")
