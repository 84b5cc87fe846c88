"""Cost against quality: every configuration in the plane of the first two objectives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator.reporting.drawing import new_figure, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.spec.metrics import axis_label, percent

PLACE = 10
NAMED_POINTS = 12
LOGARITHMIC = 20
"""Ratio of the largest to the smallest cost from which on the axis is logarithmic."""


def draw(results: FigureInput, folder: Path) -> Drawn:
    """Needs two configurations."""
    content = results.content
    pareto = content.get("pareto")
    if not pareto:
        return []
    up, across = pareto["objectives"][:2]
    names = (across["metric"], up["metric"])
    factors = np.array([percent(name) for name in names])
    points = {
        position: factors * [entry["metrics"][name] for name in names]
        for position, entry in enumerate(content["ranking"])
        if all(name in entry["metrics"] for name in names)
    }
    if len(points) < 2:
        return []
    figure, axes = new_figure(6.4, 4.0)
    drawn = pareto["front"] if len(pareto["front"]) > 1 else []  # one alone is no choice
    front = sorted((position for position in drawn if position in points), key=lambda key: float(points[key][0]))
    spreads = {
        position: factors * [content["ranking"][position]["spread"].get(name, 0.0) for name in names]
        for position in points
    }
    for chosen, colour, label in (
        ([position for position in points if position not in front], "#7a828c", "others" if front else None),
        (front, "C1", "on the front"),
    ):
        if not chosen:
            continue
        at, bars = (np.array([each[position] for position in chosen]) for each in (points, spreads))
        axes.errorbar(
            at[:, 0], at[:, 1], xerr=bars[:, 0], yerr=bars[:, 1], fmt="o", color=colour, ecolor=colour,
            elinewidth=0.7, alpha=0.9, markersize=4.5, label=label,
        )  # fmt: skip
    if front and len(pareto["objectives"]) == 2:
        axes.plot(*np.array([points[position] for position in front]).T, "-", color="C1", linewidth=0.9)
    named = front or list(points)
    for index in np.unique(np.linspace(0, len(named) - 1, min(NAMED_POINTS, len(named))).astype(int)):
        place = points[named[index]]
        axes.annotate(f"#{named[index] + 1}", place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    values = np.array(list(points.values()))[:, 0]
    if values.min() > 0 and values.max() > LOGARITHMIC * values.min():
        axes.set_xscale("log")
    for goal, label_axis in ((across, axes.set_xlabel), (up, axes.set_ylabel)):
        label_axis(f"{axis_label(goal['metric'])}, {'higher' if goal['mode'] == 'max' else 'lower'} is better")
    axes.margins(0.1)
    if front:
        axes.legend(loc="best")
    rows = [
        [position + 1, int(position in front), *(points[position] / factors), *(spreads[position] / factors)]
        for position in points
    ]
    header = ["rank", "front", *names, *(f"{name} std" for name in names)]
    path = save(figure, folder / "pareto.png", header, rows)
    return [(path, "Cost against quality of every configuration, means over seeds; bars: sample standard deviation.")]
