"""Figure of the importance of each axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.reporting.drawing import new_figure, save, shortened
from orchestrator.reporting.figures.protocol import Drawn, FigureInput

PLACE = 20


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A bar an axis; none where importance was left out."""
    path = _importance(results.content, folder)
    return [] if path is None else [(path, "which axes decide whether a configuration is among the best")]


def _importance(content: Mapping[str, Any], folder: Path) -> Path | None:
    """A bar an axis; None where importance was left out."""
    shares = content.get("importance", {}).get("shares")
    if not shares:
        return None
    figure, axes = new_figure(7, 1.0 + 0.32 * len(shares))
    names = [shortened(key, 40) for key in shares]
    bars = axes.barh(names, list(shares.values()), color="C0", height=0.65)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(shares.values()))
    axes.set_xlabel(f"share of importance for {content['importance']['metric']}")
    return save(figure, folder / "importance.png")
