"""Sections that hold the results against something else: a paper's numbers, the threshold search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aream.labels.label_free import RULES
from orchestrator.reporting.sections import Section, Table
from orchestrator.spec.metrics import number
from orchestrator.text import show
from workers.stages.pseudo_label import SEARCH, by_rule

ENOUGH_SEEDS = 3
"""Users of the methods see spreads of a point or two between runs: fewer seeds cannot tell."""
LISTED = 10


def comparison_sections(content: Mapping[str, Any]) -> list[Section]:
    """Sections that compare a summary's content with papers and with label-free thresholds."""
    return [section for section in (_paper(content), _label_free(content)) if section is not None]


def paper_lines(content: Mapping[str, Any]) -> list[str]:
    """A sentence for each of a paper's numbers that the sweep has one beside."""
    return [
        f"{row['source']}: {_where(row)} {row['metric']} {row['paper']:.4f}, ours {row['ours']:.4f} "
        f"({row['difference']:+.4f}, {'within' if row['within'] else 'beyond'} ± {row['tolerance']:g})"
        for row in (content.get("paper") or {"rows": []})["rows"]
        if row["ours"] is not None
    ]


def _where(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={show(value)}" for key, value in row["where"].items()) or "all"


def _paper(content: Mapping[str, Any]) -> Section | None:
    paper = content.get("paper")
    if not paper:
        return None
    rows = [
        [
            _where(row),
            row["metric"],
            number(row["metric"], row["paper"]),
            number(row["metric"], row["ours"], row["spread"]),
            "" if row["ours"] is None else f"{row['difference']:+.4f}",
            f"± {row['tolerance']:g}",
            "" if row["ours"] is None else ("yes" if row["within"] else "no"),
            "" if row["ours"] is None else str(row["seeds"]),
            row["source"],
        ]
        for row in paper["rows"]
    ]
    rows += [
        [other["name"], other["metric"], number(other["metric"], other["value"]), *[""] * 5, "not run here"]
        for other in paper["context"]
    ]
    header = ["configuration", "metric", "paper", "ours", "difference", "tolerance", "within", "seeds", "source"]
    sentences = ["The tolerance is the difference that users of the method see between runs."]
    if any(row["ours"] is not None and row["seeds"] < ENOUGH_SEEDS for row in paper["rows"]):
        sentences.append(f"Fewer than {ENOUGH_SEEDS} seeds cannot tell a difference from chance.")
    return Section("Against the paper", sentences, Table(header, rows, text=frozenset({0, 1, 8})))


def _label_free(content: Mapping[str, Any]) -> Section | None:
    """Loss of mIoU by thresholds that need no ground truth, per configuration and rule."""
    entries = [
        (position, entry["metrics"], entry["spread"])
        for position, entry in enumerate(content["ranking"])
        if by_rule(SEARCH) in entry["metrics"]
    ]
    if not entries:
        return None
    names = [rule for rule in RULES if any(by_rule(rule) in metrics for _, metrics, _ in entries)]
    rows = []
    for position, metrics, spread in entries[:LISTED]:
        best = metrics[by_rule(SEARCH)]
        row = [f"#{position + 1}", number(by_rule(SEARCH), best, spread.get(by_rule(SEARCH)))]
        for rule in names:
            name = by_rule(rule)
            known = name in metrics
            row += [
                number(name, metrics.get(name), spread.get(name)),
                f"{metrics[name] - best:+.4f}" if known else "",
            ]
        rows.append(row)
    header = ["configuration", "search", *(cell for rule in names for cell in (rule, "loss"))]
    sentences = [
        "mIoU of the pseudo-labels at the threshold that each rule picks, on the same images, whichever rule the sweep "
        "used; search: the best of all thresholds, which looks at the ground truth it is scored on."
    ]
    sentences += [f"{rule}: {RULES[rule].description}." for rule in names]
    return Section("Thresholds without ground truth", sentences, Table(header, rows))
