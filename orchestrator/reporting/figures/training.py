"""Losses and the measure that epochs are judged by, over a training."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from orchestrator.reporting.drawing import BAND, CURVES, line_titles, name_lines, panels, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.spec.metrics import axis_label, of_training, percent
from workers.artifacts.store import ArtifactStore

PLACE = 60
VARIANT_SECTIONS = ("inference.", "labels.")
LOSS = "_loss"


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A panel a measure; the first trainings, mean over seeds."""
    trainings = _trainings(results.content, results.store)
    if not trainings:
        return []
    titles = line_titles([config for config, _ in trainings])
    names = dict.fromkeys(name for _, seeds in trainings for rows in seeds for row in rows for name in row)
    shown = [name for name in names if name in of_training()[:1] or name.endswith(LOSS)]
    if not shown:
        return []
    shown.sort(key=lambda name: name.endswith(LOSS))  # stable: what is judged by goes first
    figure, axes = panels(len(shown), 3, 3.0, 2.4, sharex=True)
    rows: list[list[Any]] = []
    for place, name in zip(axes, shown, strict=True):
        for title, (_, seeds) in zip(titles, trainings, strict=True):
            rows += [[name, title, *row] for row in _draw(place, name, title, seeds)]
        place.set_ylabel(axis_label(name).removeprefix("train/").replace("_", " "))
        place.set_xlabel("epoch")
        place.xaxis.get_major_locator().set_params(integer=True)
    name_lines(axes[0], figure)
    path = save(figure, folder / "training.png", ["measure", "training", "epoch", "mean", "std"], rows)
    return [(path, "Training of the first configurations, mean over seeds; band: sample standard deviation.")]


def _draw(place: Any, name: str, title: str, seeds: list[list[dict[str, float]]]) -> list[tuple[float, float, float]]:
    """One line; an epoch counts where every seed reported it."""
    own = [{row["epoch"]: row[name] for row in rows if name in row} for rows in seeds]
    epochs = sorted(set.intersection(*(set(found) for found in own)))
    values = np.array([[found[epoch] for epoch in epochs] for found in own]).reshape(len(own), -1)
    mean, spread = values.mean(0), values.std(0, ddof=1) if len(own) > 1 else np.zeros(len(epochs))
    factor = percent(name)
    (line,) = place.plot(epochs, factor * mean, label=title, marker="o" if len(epochs) < 3 else None)
    low, high = factor * (mean - spread), factor * (mean + spread)
    place.fill_between(epochs, low, high, color=line.get_color(), alpha=BAND, linewidth=0)
    return list(zip(epochs, mean, spread, strict=True))


def _trainings(
    content: Mapping[str, Any], store: ArtifactStore
) -> list[tuple[dict[str, Any], list[list[dict[str, float]]]]]:
    """Configuration of the first distinct trainings, and the history of each seed."""
    found: dict[tuple[str, ...], tuple[dict[str, Any], list[list[dict[str, float]]]]] = {}
    for entry in content["ranking"]:
        keys = tuple(entry["trial_keys"])
        if len(found) == CURVES:
            break
        if keys in found:
            continue
        histories = []
        for key in keys:
            with contextlib.suppress(ArtifactNotFound, ArtifactCorrupt):
                histories.append(store.record(key).history)
        if histories:
            own = {key: value for key, value in entry["config"].items() if not key.startswith(VARIANT_SECTIONS)}
            found[keys] = (own, histories)
    return list(found.values())
