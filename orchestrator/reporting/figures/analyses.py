"""The pictures of the analyses: every measure over the layers, hosts without a method's loss beside the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from orchestrator.reporting.analyses import AnalysisResult, Panel
from orchestrator.reporting.drawing import save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from workers.processes.atomic_write import write_bytes

PLACE = 70

COLUMNS = 3
WIDTH, HEIGHT = 5.2, 3.6
"""Size of a panel, in inches."""
BASELINE_COLOURS = ("black", "dimgray", "darkgray")


def draw(results: FigureInput, folder: Path) -> Drawn:
    """One figure an analysis, and its pictures."""
    drawn: Drawn = []
    for result in results.analyses:
        if result.panels:
            captions = "; ".join(f"{panel.y}: {panel.caption}" for panel in result.panels)
            path = save(analysis_figure(result), folder / f"{result.name}.png")
            drawn.append((path, f"{result.name}, dashed: trained without a method's loss. {captions}"))
        for shown in result.pictures:
            path = folder / f"{result.name}_{shown.artifact.rpartition('-')[2]}_{shown.picture.name}.png"
            write_bytes(path, shown.content)
            drawn.append((path, shown.caption))
    return drawn


def analysis_figure(result: AnalysisResult) -> Figure:
    """A panel a measure."""
    columns = min(COLUMNS, len(result.panels))
    rows = -(-len(result.panels) // columns)
    figure = Figure(figsize=(max(7.0, WIDTH * columns), HEIGHT * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, result.panels, strict=False):
        _draw(axes, panel)
    free = grid.flat[len(result.panels) :]
    for axes in free:
        axes.axis("off")
    if len(free):
        free[0].legend(*grid.flat[0].get_legend_handles_labels(), fontsize=8, loc="center left")
    else:
        grid.flat[0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.02), borderaxespad=0)
    return figure


def _draw(axes: Any, panel: Panel) -> None:
    """Lines over the layers; single values to compare with stand to their right."""
    depth = max(len(line.values) for line in panel.lines)
    marks = list(dict.fromkeys(mark for line in panel.lines for mark in line.marks))
    baselines = 0
    for index, line in enumerate(panel.lines):
        colour, style = f"C{index}", "o-"
        if line.baseline:
            colour, style = BASELINE_COLOURS[baselines % len(BASELINE_COLOURS)], "s--"
            baselines += 1
        means, spreads = (np.array(part) for part in zip(*line.values, strict=True))
        axes.plot(range(len(means)), means, style, color=colour, label=line.title, markersize=3)
        axes.fill_between(range(len(means)), means - spreads, means + spreads, color=colour, alpha=0.15)
        for position, mark in enumerate(marks):
            if mark in line.marks:
                mean, spread = line.marks[mark]
                axes.errorbar(depth + position, mean, yerr=spread, fmt=style[0], color=colour, markersize=5)
    if marks:
        axes.axvline(depth - 0.5, color="lightgray", linewidth=0.8)
    every = max(1, -(-depth // 12))
    layers = list(range(0, depth, every))
    axes.set_xticks([*layers, *range(depth, depth + len(marks))], [*map(str, layers), *marks], fontsize=8)
    for tick in axes.get_xticklabels()[len(layers) :]:
        tick.set_rotation(30)
        tick.set_horizontalalignment("right")
    axes.set_xlabel("layer")
    axes.set_ylabel(panel.y)
