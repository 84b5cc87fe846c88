"""The report's pictures: of the axes, and threshold curves, alphas, training curves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from orchestrator.reporting.figures.axes import importance_figure, parallel_figure, pareto_figure
from orchestrator.reporting.figures.drawing import line_titles, new_figure, save
from orchestrator.spec.metrics import of_training
from workers.artifacts.store import ArtifactStore

CURVES = 6
MOST_CELLS = 10
"""Values of an alpha axis that a heat map has room for."""
ALPHAS = ("method.alpha_low", "method.alpha_high")


def draw_figures(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> list[tuple[Path, str]]:
    """Write what the results allow as PNGs; returns (file, caption)."""
    folder.mkdir(parents=True, exist_ok=True)
    metric = content["rank"]["metric"]
    drawn = [
        (
            pareto_figure(content, folder),
            "every configuration, means over seeds; numbered: rank of those on the Pareto front, bars: their spread",
        ),
        (importance_figure(content, folder), "which axes decide whether a configuration is among the best"),
        (
            parallel_figure(content, folder),
            f"every configuration over the axes that vary, coloured by {metric}; lines through a listed value lie "
            "beside each other, the better the higher",
        ),
        (
            _threshold_curves(content, store, folder),
            "mIoU at every background threshold, best seed of the first configurations; dashed: unrefined",
        ),
        (_alpha_heatmap(content, folder), f"mean {metric} over seeds for the two alphas, best variant of each"),
        (
            _training(content, store, folder),
            f"{of_training()[0]} over the epochs, first seed of the first configurations",
        ),
    ]
    return [(path, caption) for path, caption in drawn if path is not None]


def readable(store: ArtifactStore, key: str) -> Path | None:
    """The artifact's folder; None where it is gone or damaged, which is no reason to have no report."""
    try:
        return store.get(key)
    except (ArtifactNotFound, ArtifactCorrupt):
        return None


def _threshold_curves(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> Path | None:
    found = [(entry, readable(store, entry["label_artifact"])) for entry in content["ranking"][:CURVES]]
    read = [(entry, json.loads((labels / "curve.json").read_text())) for entry, labels in found if labels is not None]
    entries = [(entry, curves) for entry, curves in read if curves["refined"]["curve"]]  # else without train masks
    if not entries:
        return None
    titles = line_titles([entry["config"] for entry, _ in entries])
    figure, axes = new_figure(7, 4)
    for index, (_, curves) in enumerate(entries):
        for name, style in (("refined", "-"), ("unrefined", "--")):
            curve = curves[name]
            label = titles[index] if name == "refined" else None
            marker = "o" if len(curve["curve"]) == 1 else None
            axes.plot(curve["thresholds"], curve["curve"], style, color=f"C{index}", label=label, marker=marker)
    axes.set_xlabel("background threshold")
    axes.set_ylabel("mIoU")
    axes.legend(fontsize=7)
    return save(figure, folder / "threshold_curves.png")


def _alpha_heatmap(content: Mapping[str, Any], folder: Path) -> Path | None:
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
        return _alpha_points(best, metric, folder)
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


def _alpha_points(best: Mapping[tuple[float, float], float], metric: str, folder: Path) -> Path:
    """Of a search, whose points lie anywhere."""
    figure, axes = new_figure(6, 4.5)
    lows, highs = zip(*best, strict=True)
    points = axes.scatter(highs, lows, c=list(best.values()), cmap="viridis", s=28)
    axes.set_xlabel("alpha_high")
    axes.set_ylabel("alpha_low")
    figure.colorbar(points, label=metric)
    return save(figure, folder / "alphas.png")


def _training(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> Path | None:
    histories: dict[str, tuple[Mapping[str, Any], list[dict[str, float]]]] = {}
    for entry in content["ranking"]:
        key = entry["trial_keys"][0]
        if len(histories) == CURVES:
            break
        if key not in histories:
            with contextlib.suppress(ArtifactNotFound, ArtifactCorrupt):
                histories[key] = (entry["config"], store.record(key).history)
    if not histories:
        return None
    (metric, *_), (figure, axes) = of_training(), new_figure(7, 3.5)
    titles = line_titles([config for config, _ in histories.values()])
    for label, (_, history) in zip(titles, histories.values(), strict=True):
        axes.plot([row["epoch"] for row in history], [row[metric] for row in history], label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7)
    return save(figure, folder / "training.png")
