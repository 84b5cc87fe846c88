"""mIoU at every background threshold, refined and not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.reporting.drawing import BAND, CURVES, line_titles, name_lines, panels, read_file, save, wrapped
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from workers.artifacts.store import ArtifactStore

PLACE = 40
KINDS = {"unrefined": ("#7a828c", "CAM before refinement"), "refined": ("C0", "refined")}


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A panel for each of the first configurations; nothing without train masks."""
    found = [(entry, _curves(entry, results.store)) for entry in results.content["ranking"][:CURVES]]
    entries = [(entry, curves) for entry, curves in found if curves]
    if not entries:
        return []
    titles = line_titles([entry["config"] for entry, _ in entries])
    figure, axes = panels(len(entries), 3, 2.7, 2.3, sharex=True, sharey=True)
    rows: list[list[Any]] = []
    for place, title, (_, curves) in zip(axes, titles, entries, strict=True):
        for kind, (colour, label) in KINDS.items():
            thresholds = curves[0][kind]["thresholds"]
            values = 100 * np.array([each[kind]["curve"] for each in curves])
            mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(thresholds))
            place.plot(thresholds, mean, color=colour, label=label, marker="o" if len(thresholds) == 1 else None)
            place.fill_between(thresholds, mean - spread, mean + spread, color=colour, alpha=BAND, linewidth=0)
            rows += [[title, kind, *row] for row in zip(thresholds, mean / 100, spread / 100, strict=True)]
            best = int(mean.argmax())
            place.plot(thresholds[best], mean[best], "o", color=colour, markersize=4)
        place.set_title(wrapped(title), fontsize=8)
        place.set_xlabel("background threshold")
    axes[0].set_ylabel("pseudo-label mIoU (%)")
    name_lines(axes[0], figure)
    path = save(figure, folder / "threshold_curves.png", ["configuration", "map", "threshold", "mIoU", "std"], rows)
    caption = (
        "mIoU of the pseudo-labels at every background threshold, mean over seeds of the first configurations; band: "
        "sample standard deviation, dot: the best threshold of the mean."
    )
    return [(path, caption)]


def _curves(entry: Mapping[str, Any], store: ArtifactStore) -> list[dict[str, Any]]:
    """A seed each, those over the same thresholds as the first."""
    keys = list(entry.get("label_artifacts", {}).values()) or [entry["label_artifact"]]
    contents = [content for key in keys if (content := read_file(store, key, "curve.json")) is not None]
    read = [json.loads(content) for content in contents]
    read = [curves for curves in read if curves["refined"]["curve"]]  # else without train masks
    return [curves for curves in read if curves["refined"]["thresholds"] == read[0]["refined"]["thresholds"]]
