"""Figure of the importance of each axis."""

from __future__ import annotations

from pathlib import Path

from orchestrator.reporting.drawing import new_figure, save, shortened
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.spec.metrics import called

PLACE = 20


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A bar an axis; none where importance was left out."""
    found = results.content.get("importance", {})
    shares = found.get("shares")
    if not shares:
        return []
    figure, axes = new_figure(6.4, 0.8 + 0.28 * len(shares))
    bars = axes.barh([shortened(key, 40) for key in shares], [100 * share for share in shares.values()], height=0.62)
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 110 * max(shares.values()))
    axes.set_xlabel(f"share of the importance for {called(found['metric'])} (%)")
    path = save(figure, folder / "importance.png", ["axis", "share"], list(shares.items()))
    return [(path, "Which axes decide whether a configuration is among the best (PED-ANOVA).")]
