"""Parallel coordinates: every configuration over the axes that vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from orchestrator.reporting.drawing import new_figure, save, shortened
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.results.importance import LISTED
from orchestrator.spec.settings import Goal
from orchestrator.text import show, shown_beside

PLACE = 30

MOST_TICKS = 12
ABSENT = -0.12
"""Height of configurations that do not have an axis."""
FAN = 0.05
"""Distance between lines through one listed value, so that one does not hide the others."""


def draw(results: FigureInput, folder: Path) -> Drawn:
    """Of a search, whose configurations differ in several axes at a time; needs two."""
    kinds = results.content.get("axis_kinds", {})
    if all(kind == "grid" for kind in kinds.values()):  # each axis has its own effect
        return []
    path = _parallel(results.content, folder)
    metric = results.content["rank"]["metric"]
    caption = (
        f"every configuration over the axes that vary, coloured by {metric}; lines through a listed value lie beside "
        "each other, the better the higher"
    )
    return [] if path is None else [(path, caption)]


def _parallel(content: Mapping[str, Any], folder: Path) -> Path | None:
    """A line a configuration over all axes that vary to the rank metric; None for fewer than two."""
    rank = Goal(**content["rank"])
    metric = rank.metric
    entries = [entry for entry in content["ranking"] if metric in entry["metrics"]]
    kinds = content.get("axis_kinds", {})
    scales = [_scale(key, kinds.get(key, "grid"), [entry["config"] for entry in entries]) for key in content["axes"]]
    scales = [scale for scale in scales if len(set(scale.heights)) > 1]
    if len(entries) < 2 or not scales:
        return None
    scores = np.array([entry["metrics"][metric] for entry in entries])
    scales.append(_numeric(metric, list(scores), logarithmic=False))
    order = np.argsort([rank.merit(entry["metrics"]) for entry in entries], kind="stable")
    fan = np.empty(len(entries))
    fan[order] = np.linspace(-FAN, FAN, len(entries))
    heights = np.array([scale.heights + (fan if scale.listed else 0) for scale in scales]).T
    lines = [np.column_stack([np.arange(len(scales)), heights[index]]) for index in order]
    width, opacity = (1.6, 0.9) if len(entries) <= 40 else (0.8, 0.5)
    figure, axes = new_figure(max(7.0, 1.7 * len(scales)), 4.5)
    collection = LineCollection(lines, cmap="cividis", linewidths=width, alpha=opacity)
    collection.set_array(scores[order])
    axes.add_collection(collection)
    axes.plot(np.arange(len(scales)), heights[order[-1]], color="C1", linewidth=2.2, label="highest merit")
    for position, scale in enumerate(scales):
        axes.axvline(position, color="0.3", linewidth=0.8)
        for height, text in scale.ticks:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
            axes.text(position + 0.03, height, text, fontsize=7, va="center", bbox=box, zorder=4)
    axes.set_xticks(range(len(scales)), [shortened(scale.name, 40).replace(".", ".\n") for scale in scales], fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(scales) - 1 + 0.45)
    lowest = min(float(heights.min()), 0.0)
    axes.set_ylim(lowest - 0.06, 1.0 + FAN + 0.03)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
    header = ["rank", *content["axes"], metric]
    rows = [
        [rank_of, *(show(entry["config"][key]) if key in entry["config"] else "" for key in content["axes"]),
         entry["metrics"][metric]]
        for rank_of, entry in enumerate(entries, start=1)
    ]  # fmt: skip
    return save(figure, folder / "parallel.png", header, rows)


@dataclass(frozen=True)
class _Scale:
    """One vertical line: where each configuration crosses it, and what stands beside it."""

    name: str
    heights: np.ndarray
    ticks: Sequence[tuple[float, str]]
    listed: bool


def _scale(key: str, kind: str, configs: Sequence[Mapping[str, Any]]) -> _Scale:
    present = [config[key] for config in configs if key in config]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)
    if kind not in LISTED and numbers:
        return _numeric(key, [config.get(key) for config in configs], logarithmic=kind == "loguniform")
    texts = [config.get(key) for config in shown_beside(configs)]
    values = (
        [show(value) for value in sorted(set(present))] if numbers else [text for text in texts if text is not None]
    )
    values = list(dict.fromkeys(values))
    places = {text: index / max(1, len(values) - 1) for index, text in enumerate(values)}
    heights = np.array([ABSENT if text is None else places[text] for text in texts])
    step = max(1, -(-len(places) // MOST_TICKS))
    ticks = [(height, shortened(text, 24)) for text, height in list(places.items())[::step]]
    return _Scale(key, heights, _with_absent(ticks, heights), listed=True)


def _numeric(name: str, values: Sequence[Any], logarithmic: bool) -> _Scale:
    present = np.array([value for value in values if value is not None], dtype=float)
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)

    def height(value: Any) -> float:
        if value is None:
            return ABSENT
        if low == high:
            return 0.5
        share = np.log(value / low) / np.log(high / low) if logarithmic else (value - low) / (high - low)
        return float(share)

    marks = np.geomspace(low, high, 5) if logarithmic and low > 0 else np.linspace(low, high, 5)
    ticks = [(height(mark), f"{mark:.4g}") for mark in (marks if low < high else marks[:1])]
    heights = np.array([height(value) for value in values])
    return _Scale(name, heights, _with_absent(ticks, heights), listed=False)


def _with_absent(ticks: list[tuple[float, str]], heights: np.ndarray) -> list[tuple[float, str]]:
    return [*ticks, (ABSENT, "absent")] if (heights == ABSENT).any() else ticks
