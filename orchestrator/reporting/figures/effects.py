"""Effect of each axis: its values against the one that does nothing or the worst, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.reporting.drawing import panels, save, shortened
from orchestrator.reporting.figures.protocol import Drawn, FigureInput
from orchestrator.spec.metrics import called, percent
from orchestrator.text import short_names

PLACE = 5

ROW, MARGIN = 0.3, 0.95
"""Height of a value and of what is around a panel, in inches."""


def draw(results: FigureInput, folder: Path) -> Drawn:
    """A panel an axis; nothing where no two configurations differ in one axis alone."""
    found = results.content.get("answer", {}).get("effects")
    if not found:
        return []
    metric, factor = results.content["rank"]["metric"], percent(results.content["rank"]["metric"])
    names = short_names(results.content["axes"])
    most = max(len(effect["values"]) for effect in found)
    figure, axes = panels(len(found), 3, 3.4, MARGIN + ROW * most, sharex=True)
    rows = []
    for place, effect in zip(axes, found, strict=True):
        place.axvline(0, color="#3d444d", linewidth=0.8)
        for height, value in enumerate(effect["values"]):
            difference = _difference(effect, value)
            if difference is None:
                place.text(0, height, " never tried with all else equal", va="center", fontsize=7, color="#7a828c")
                rows.append([names[effect["axis"]], value, effect["reference"], "", "", ""])
                continue
            mean, half, told = difference
            colour = "C0" if told else "#7a828c"
            drawn = None if half is None else factor * half
            place.errorbar(
                factor * mean, height, xerr=drawn, fmt="o", color=colour, markersize=5, capsize=2,
                markerfacecolor=colour if told or value == effect["reference"] else "white",
            )  # fmt: skip
            rows.append([names[effect["axis"]], value, effect["reference"], mean, "" if half is None else half, told])
        place.set_yticks(range(len(effect["values"])), [shortened(value, 26) for value in effect["values"]])
        place.set_ylim(len(effect["values"]) - 0.4, -0.6)
        place.grid(axis="y", visible=False)
        place.set_title(shortened(names[effect["axis"]], 36), fontweight="bold")
        unit = "points" if factor != 1 else "difference"
        place.set_xlabel(f"{called(metric)}, {unit} over {shortened(effect['reference'], 20)}")
        place.margins(x=0.12)
    header = ["axis", "value", "over", f"difference in {metric}", "half of the 95 % interval", "beyond seed noise"]
    path = save(figure, folder / "effects.png", header, rows)
    one = results.content["answer"]["ties"]["seeds"] < 2
    bars = "bars: 95 % intervals over seeds; hollow: seed noise does not tell it from 0"
    said = "one seed: no interval" if one else bars
    return [(path, f"Effect of each axis on {called(metric)}, paired by seed, all else equal; {said}.")]


def _difference(effect: Mapping[str, Any], value: str) -> tuple[float, float | None, bool] | None:
    """Mean difference to the reference, half of its interval, and whether it is beyond noise; None where the two were
    never compared."""
    if value == effect["reference"]:
        return 0.0, None, False
    two = {value, effect["reference"]}
    pair = next((pair for pair in effect["pairs"] if {pair["value"], pair["over"]} == two), None)
    if pair is None:
        return None
    return (pair["mean"] if pair["value"] == value else -pair["mean"]), pair["half"], pair["beyond"]
