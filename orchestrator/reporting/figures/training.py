"""Training curves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from orchestrator.reporting.drawing import CURVES, line_titles, new_figure, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.spec.metrics import of_training
from workers.artifacts.store import ArtifactStore

PLACE = 60


def draw(results: FigureInput, folder: Path) -> Drawn:
    """The measure that epochs are judged by, of the first configurations."""
    path = _training(results.content, results.store, folder)
    caption = f"{of_training()[0]} over the epochs, first seed of the first configurations"
    return [] if path is None else [(path, caption)]


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
