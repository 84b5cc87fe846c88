"""Analyses: every measure over the layers, before a method's loss and after it; and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from orchestrator.reporting.analyses import AnalysisResult, Line, Panel
from orchestrator.reporting.drawing import BAND, name_lines, panels, save, wrapped
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from workers.processes.atomic_write import write_bytes

PLACE = 7
WITHOUT = "none"
"""The mark of a curve that says what it is without any layer: the figure shows what each layer adds to it."""
IN_PERCENT = "mIoU"
BEFORE, AFTER, OTHERS = "#1a1f27", "C0", "#c3c9d1"
MOST_TICKS = 8
Row = list[Any]


def draw(results: FigureInput, folder: Path) -> Drawn:
    """One figure an analysis, and its pictures."""
    drawn: Drawn = []
    for result in results.analyses:
        if result.panels:
            figure, rows = analysis_figure(result)
            header = ["measure", "training", "place", "mean", "std", "seeds"]
            path = save(figure, folder / f"{result.name}.png", header, rows)
            drawn.append((path, _caption(result)))
        for shown in result.pictures:
            path = folder / f"{result.name}_{shown.artifact.rpartition('-')[2]}_{shown.picture.name}.png"
            write_bytes(path, shown.content)
            drawn.append((path, shown.caption))
    return drawn


def analysis_figure(result: AnalysisResult) -> tuple[Figure, list[Row]]:
    """Small multiples: a panel a measure and training, the host without a method's loss in each; and the numbers."""
    wanted = [(panel, line) for panel in result.panels for line in _own(panel)]
    figure, axes = panels(len(wanted), 3, 3.1, 2.6)
    for place, (panel, line) in zip(axes, wanted, strict=True):
        _draw(place, panel, line)
    name_lines(axes[0], figure)
    rows = [row for panel in result.panels for line in panel.lines for row in _rows(panel, line)]
    return figure, rows


def _own(panel: Panel) -> Sequence[Line]:
    return [line for line in panel.lines if not line.baseline] or panel.lines[:1]


def _draw(place: Any, panel: Panel, own: Line) -> None:
    """The training of the panel in colour, the host alone dashed, the other trainings behind them in grey."""
    gain, factor = _is_gain(panel), 100 if panel.y.startswith(IN_PERCENT) else 1
    depth = max(len(line.values) for line in panel.lines)
    named = dict.fromkeys(mark for line in panel.lines for mark in line.marks)
    marks = [mark for mark in named if not (gain and mark == WITHOUT)]
    for line in sorted(panel.lines, key=lambda each: (each is own, each.baseline)):
        colour, dashes = (AFTER, "-") if line is own else (BEFORE, "--") if line.baseline else (OTHERS, "-")
        if line is own and line.baseline:
            colour, dashes = BEFORE, "--"
        told = line is own or line.baseline
        mean, spread = (factor * part for part in _over_seeds(line, gain))
        at = range(len(mean))
        place.plot(at, mean, dashes, color=colour, marker="o" if told else None, linewidth=1.6 if told else 0.9,
                   label="host alone" if line.baseline else "with the method" if line is own else None)  # fmt: skip
        if told:
            place.fill_between(at, mean - spread, mean + spread, color=colour, alpha=BAND, linewidth=0)
        for position, mark in enumerate(marks):
            if told and mark in line.marks:
                value, bar = (factor * part for part in _mark(line, mark, gain))
                place.errorbar(depth + 0.5 + position, value, yerr=bar, fmt="D" if line.baseline else "o", color=colour)
    if gain:
        place.axhline(0, color="#3d444d", linewidth=0.8)
    if marks:
        place.axvline(depth - 0.25, color="#c3c9d1", linewidth=0.8)
    layers = list(range(0, depth, max(1, -(-depth // MOST_TICKS))))
    place.set_xticks([*layers, *(depth + 0.5 + at for at in range(len(marks)))], [*map(str, layers), *marks])
    for tick in place.get_xticklabels()[len(layers) :]:
        tick.set_rotation(35)
        tick.set_horizontalalignment("right")
    place.set_title(wrapped(own.title), fontsize=8)
    place.set_xlabel("layer")
    place.set_ylabel("gain in mIoU (points)" if gain and factor != 1 else f"{panel.y}{' (%)' if factor != 1 else ''}")


def _is_gain(panel: Panel) -> bool:
    return all(WITHOUT in line.marks and line.seeds for line in panel.lines)


def _over_seeds(line: Line, gain: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation by layer; of what is gained over no refinement, seed by seed."""
    if not gain:
        means, spreads = zip(*line.values, strict=True)
        return np.array(means), np.array(spreads)
    values = np.array([np.array(curve.values) - curve.marks[WITHOUT] for curve in line.seeds])
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])


def _mark(line: Line, mark: str, gain: bool) -> tuple[float, float]:
    if not gain:
        return line.marks[mark]
    values = np.array([curve.marks[mark] - curve.marks[WITHOUT] for curve in line.seeds])
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _rows(panel: Panel, line: Line) -> list[Row]:
    places = [*((str(layer), value) for layer, value in enumerate(line.values)), *line.marks.items()]
    return [[panel.name, line.title, place, mean, spread, len(line.seeds)] for place, (mean, spread) in places]


def _caption(result: AnalysisResult) -> str:
    said = "; ".join(f"{panel.y}: {panel.caption}" for panel in result.panels)
    if any(_is_gain(panel) for panel in result.panels):
        said = f"gain over the CAM that no layer refined, paired by seed. {said}"
    return f"{result.name}: {said}. Dashed: the host trained without a method's loss; band: sample standard deviation."
