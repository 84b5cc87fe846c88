"""The Pareto front of the first two objectives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.reporting.drawing import new_figure, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput

PLACE = 10


NAMED_POINTS = 12


def draw(results: FigureInput, folder: Path) -> Drawn:
    """Needs two configurations."""
    path = _pareto(results.content, folder)
    caption = "every configuration, means over seeds; numbered: rank of those on the Pareto front, bars: their spread"
    return [] if path is None else [(path, caption)]


def _pareto(content: Mapping[str, Any], folder: Path) -> Path | None:
    """All configurations in the plane of the first two objectives; None for fewer than two."""
    pareto = content.get("pareto")
    if not pareto:
        return None
    up, across = pareto["objectives"][:2]
    names = (across["metric"], up["metric"])
    points = {
        position: [entry["metrics"][name] for name in names]
        for position, entry in enumerate(content["ranking"])
        if all(name in entry["metrics"] for name in names)
    }
    if len(points) < 2:
        return None
    figure, axes = new_figure(7, 4.5)
    drawn = pareto["front"] if len(pareto["front"]) > 1 else []  # one alone is no choice
    front = sorted((position for position in drawn if position in points), key=lambda key: points[key])
    rest = np.array([point for position, point in points.items() if position not in front]).reshape(-1, 2)
    best = np.array([points[position] for position in front]).reshape(-1, 2)
    axes.scatter(rest[:, 0], rest[:, 1], s=18, color="0.5", label="configurations" if not front else "others")
    if len(pareto["objectives"]) == 2:
        axes.plot(best[:, 0], best[:, 1], "-", color="C3", linewidth=0.8)
    errors = [[content["ranking"][position]["spread"].get(name, 0.0) for position in front] for name in names]
    axes.errorbar(best[:, 0], best[:, 1], xerr=errors[0], yerr=errors[1], fmt="none", ecolor="C3", alpha=0.35)
    if front:
        axes.scatter(best[:, 0], best[:, 1], s=32, color="C3", zorder=3, label="front")
    for index in np.unique(np.linspace(0, len(front) - 1, min(NAMED_POINTS, len(front))).astype(int)):
        axes.annotate(f"#{front[index] + 1}", best[index], xytext=(5, 5), textcoords="offset points", fontsize=8)
    values = np.array(list(points.values()))[:, 0]
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_xscale("log")
    for goal, label in ((across, axes.set_xlabel), (up, axes.set_ylabel)):
        label(f"{goal['metric']} ({'higher' if goal['mode'] == 'max' else 'lower'} is better)")
    axes.margins(0.1)
    axes.legend(fontsize=8)
    return save(figure, folder / "pareto.png")
