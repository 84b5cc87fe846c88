"""Results of a sweep's analyses, read from their artifacts: one line per training, mean over seeds with spread."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aream.errors import DataError
from orchestrator.reporting.drawing import line_titles, read_file
from orchestrator.reporting.sections import Section, Table
from workers.artifacts.store import ArtifactStore
from workers.files.figures import FIGURES_FILE, Curve, Figures, Picture, parse_figures

MOST_LINES = 6
"""Trainings shown; those without the method's loss first, then the best."""
MOST_PICTURED = 3
"""Trainings whose pictures are shown."""
VARIANT_SECTIONS = ("inference.", "labels.")
Values = tuple[float, float]
"""Mean over seeds and sample standard deviation (0 for one seed)."""


@dataclass(frozen=True)
class Line:
    title: str
    baseline: bool
    """True for a host trained without a method's loss."""
    values: tuple[Values, ...]
    marks: Mapping[str, Values]
    seeds: tuple[Curve, ...] = ()
    """The curves behind them, one a seed."""


@dataclass(frozen=True)
class Panel:
    """One measure over the layers."""

    name: str
    y: str
    caption: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Shown:
    """A picture of an artifact."""

    artifact: str
    picture: Picture
    caption: str
    content: bytes


@dataclass(frozen=True)
class AnalysisResult:
    name: str
    panels: tuple[Panel, ...]
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class _Training:
    """Ranked entries that share the artifacts of an analysis."""

    title: str
    baseline: bool
    keys: tuple[str, ...]
    """A seed each."""
    figures: tuple[Figures, ...]


def analysis_results(content: Mapping[str, Any], store: ArtifactStore) -> list[AnalysisResult]:
    """Analysis results for a summary's content; artifacts missing or damaged in the store are left out."""
    names = dict.fromkeys(name for entry in content["ranking"] for name in entry.get("analyses", {}))
    results = []
    for name in names:
        trainings = _trainings(content, name, store)
        panels = [panel for measure in _measures(trainings) if (panel := _panel(measure, trainings)) is not None]
        results.append(AnalysisResult(name, tuple(panels), tuple(_pictures(trainings, store))))
    return [result for result in results if result.panels or result.pictures]


def analysis_sections(results: Sequence[AnalysisResult]) -> list[Section]:
    """The figures' numbers as tables."""
    return [_table(result, panel) for result in results for panel in result.panels]


def _trainings(content: Mapping[str, Any], name: str, store: ArtifactStore) -> list[_Training]:
    groups: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for entry in content["ranking"]:  # best first
        if name in entry.get("analyses", {}):
            groups.setdefault(tuple(entry["analyses"][name].values()), entry)
    own = [
        {key: value for key, value in entry["config"].items() if not key.startswith(VARIANT_SECTIONS)}
        for entry in groups.values()
    ]
    distinct = len({repr(config) for config in own}) == len(own)
    titles = line_titles(own if distinct else [entry["config"] for entry in groups.values()])
    ordered = sorted(
        zip(groups.items(), titles, strict=True), key=lambda item: not item[0][1].get("without_loss", False)
    )  # stable: the best of each stay first
    trainings: list[_Training] = []
    for (keys, entry), title in ordered:
        if len(trainings) == MOST_LINES:
            break
        figures = tuple(found for key in keys if (found := _figures(key, store)) is not None)
        if figures:
            trainings.append(_Training(title, entry.get("without_loss", False), keys, figures))
    return trainings


def _figures(key: str, store: ArtifactStore) -> Figures | None:
    content = read_file(store, key, FIGURES_FILE)
    try:
        return None if content is None else parse_figures(content)
    except DataError:
        return None


def _measures(trainings: Sequence[_Training]) -> list[str]:
    return list(dict.fromkeys(curve.name for one in trainings for each in one.figures for curve in each.curves))


def _panel(measure: str, trainings: Sequence[_Training]) -> Panel | None:
    lines, first = [], None
    for training in trainings:
        curves = [curve for figures in training.figures for curve in figures.curves if curve.name == measure]
        if not curves or len({len(curve.values) for curve in curves}) != 1:
            continue
        first = first or curves[0]
        values = tuple(_mean([curve.values[layer] for curve in curves]) for layer in range(len(curves[0].values)))
        marks = {
            mark: _mean([curve.marks[mark] for curve in curves])
            for mark in curves[0].marks
            if all(mark in curve.marks for curve in curves)
        }
        lines.append(Line(training.title, training.baseline, values, marks, tuple(curves)))
    return Panel(measure, first.y, first.caption, tuple(lines)) if first is not None else None


def _mean(values: Sequence[float]) -> Values:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _pictures(trainings: Sequence[_Training], store: ArtifactStore) -> list[Shown]:
    """Pictures of the first seed; those that trainings made of the same image come after one another."""
    found = []
    for training in trainings[:MOST_PICTURED]:
        for position, picture in enumerate(training.figures[0].pictures):
            image = read_file(store, training.keys[0], picture.path)
            if image is not None:
                caption = f"{training.title}: {picture.caption}"
                found.append((position, Shown(training.keys[0], picture, caption, image)))
    return [shown for _, shown in sorted(found, key=lambda item: item[0])]


def _table(result: AnalysisResult, panel: Panel) -> Section:
    """A row a layer, so that a deep host and a shallow one fit a page alike."""
    depth = max(len(line.values) for line in panel.lines)
    marks = list(dict.fromkeys(mark for line in panel.lines for mark in line.marks))
    rows = [[mark, *(_cell(line.marks.get(mark)) for line in panel.lines)] for mark in marks]
    rows += [
        [f"layer {layer}", *(_cell(line.values[layer] if layer < len(line.values) else None) for line in panel.lines)]
        for layer in range(depth)
    ]
    header = ["refined by" if marks else "layer", *(line.title for line in panel.lines)]
    return Section(f"{result.name}: {panel.y}", [f"{panel.caption}."], Table(header, rows, text=frozenset({0})))


def _cell(value: Values | None) -> str:
    if value is None:
        return ""
    return f"{value[0]:.4g} ± {value[1]:.2g}" if value[1] else f"{value[0]:.4g}"
