"""The two alphas against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.reporting.drawing import new_figure, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.spec.metrics import axis_label, percent

PLACE = 50
MOST_CELLS = 10
"""Values of an alpha axis that a heat map has room for."""
NOISE_LEVELS = 4
"""The scale spans as many differences of seed noise at least, so that noise alone has one colour."""
ALPHAS = ("method.alpha_low", "method.alpha_high")
Best = Mapping[tuple[float, float], float]


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A heat map, or points of a search; needs two values of an alpha axis."""
    content, metric = results.content, results.content["rank"]["metric"]
    best: dict[tuple[float, float], float] = {}
    for entry in content["ranking"]:  # best first: the first of a cell is its best variant
        if all(key in entry["config"] for key in ALPHAS) and metric in entry["metrics"]:
            best.setdefault(tuple(entry["config"][key] for key in ALPHAS), percent(metric) * entry["metrics"][metric])
    lows, highs = sorted({low for low, _ in best}), sorted({high for _, high in best})
    if len(lows) * len(highs) < 2:
        return []
    least = content.get("answer", {}).get("ties", {}).get("least")
    noise = None if least is None else percent(metric) * least
    scale = _scale(best, noise)
    crowded = max(len(lows), len(highs)) > MOST_CELLS
    figure, axes = new_figure(5.6, 4.0) if crowded else new_figure(2.4 + 0.75 * len(highs), 1.5 + 0.55 * len(lows))
    if crowded:
        image = axes.scatter([high for _, high in best], [low for low, _ in best], c=list(best.values()), s=26, **scale)
    else:
        image = _heat_map(axes, best, lows, highs, scale)
    axes.set_xlabel("alpha_high")
    axes.set_ylabel("alpha_low")
    bar = figure.colorbar(image, label=axis_label(metric))
    if noise is not None:
        middle = (scale["vmin"] + scale["vmax"]) / 2
        bar.ax.errorbar(0.5, middle, yerr=noise / 2, color="white", capsize=4, elinewidth=1.2)
    rows = [[low, high, value / percent(metric)] for (low, high), value in best.items()]
    path = save(figure, folder / "alphas.png", ["alpha_low", "alpha_high", metric], rows)
    told = "one seed: the noise is not known" if noise is None else f"white bar: seed noise, {noise:.2g} points"
    return [(path, f"Mean over seeds for the two alphas, best variant of each; {told}.")]


def _scale(best: Best, noise: float | None) -> dict[str, Any]:
    low, high = min(best.values()), max(best.values())
    wanted = max(high - low, NOISE_LEVELS * (noise or 0.0), 1e-9)
    middle = (low + high) / 2
    return {"vmin": middle - wanted / 2, "vmax": middle + wanted / 2}


def _heat_map(axes: Any, best: Best, lows: list[float], highs: list[float], scale: Mapping[str, Any]) -> Any:
    grid = np.array([[best.get((low, high), np.nan) for high in highs] for low in lows])
    image = axes.imshow(grid, aspect="auto", **scale)
    axes.grid(visible=False)
    axes.set_xticks(range(len(highs)), [f"{high:g}" for high in highs])
    axes.set_yticks(range(len(lows)), [f"{low:g}" for low in lows])
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = "black" if image.norm(value) > 0.6 else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=8)
    return image
