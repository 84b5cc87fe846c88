"""The answer at the head of a report, and the effect of each axis behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.reporting.sections import Section, Table
from orchestrator.spec.metrics import number
from orchestrator.spec.settings import Goal
from orchestrator.text import short_names

EXPLAINED = (
    "Differences are paired by seed between configurations that are equal in all else, mean over these; ± is half the "
    "95 % interval, which holds for all pairs of an axis's values together. Settings that only one of two methods has "
    "are averaged over."
)


def answer_section(content: Mapping[str, Any]) -> Section | None:
    """The sentences that answer the sweep's question; None for a summary of an earlier version."""
    found = content.get("answer")
    return None if not found else Section("Answer", points=found["sentences"])


def effects_section(content: Mapping[str, Any]) -> Section | None:
    """A row for each value of an axis beside the value it is measured from."""
    found = content.get("answer")
    if not found or not found["effects"]:
        return None
    names, rank = short_names(content["axes"]), Goal(**content["rank"])
    rows = [
        [names[effect["axis"]], value, effect["reference"], *_cells(effect, value, rank)]
        for effect in found["effects"]
        for value in effect["values"]
        if value != effect["reference"]
    ]
    header = ["axis", "value", "over", f"difference in {rank.metric}", "95 % interval", "higher in", "verdict"]
    return Section("Effect of each axis", [EXPLAINED], Table(header, rows, text=frozenset({0, 1, 2, 6})))


def _cells(effect: Mapping[str, Any], value: str, rank: Goal) -> list[str]:
    pair = next(
        (pair for pair in effect["pairs"] if {pair["value"], pair["over"]} == {value, effect["reference"]}), None
    )
    if pair is None:
        return ["", "", "", "never tried with all else equal"]
    turned = pair["value"] != value
    mean = -pair["mean"] if turned else pair["mean"]
    worse = pair.get("worse", pair["seeds"] - pair["better"])  # earlier versions counted equal seeds there
    higher = pair["better"] if turned == (rank.mode == "min") else worse
    verdict = "one seed" if pair["half"] is None else "beyond seed noise" if pair["beyond"] else "tie"
    half = "" if pair["half"] is None else f"± {number(rank.metric, pair['half'])}"
    return [
        f"{'+' if mean >= 0 else '−'}{number(rank.metric, abs(mean))}",
        half,
        f"{higher} of {pair['seeds']}",
        verdict,
    ]
