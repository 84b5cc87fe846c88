"""mIoU at every background threshold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.reporting.drawing import CURVES, line_titles, new_figure, readable, save
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from workers.artifacts.store import ArtifactStore

PLACE = 40


def draw(results: FigureInput, folder: Path) -> Drawn:
    """Draw the curves of the first configurations; nothing without train masks."""
    path = _curves(results.content, results.store, folder)
    caption = "mIoU at every background threshold, best seed of the first configurations; dashed: unrefined"
    return [] if path is None else [(path, caption)]


def _curves(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> Path | None:
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
