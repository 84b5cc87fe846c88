"""The ranking and what else a finished sweep prints."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.console.fitted_table import WIDE, FittedTable
from orchestrator.reporting.comparisons import paper_lines
from orchestrator.reporting.ranking_table import FRONT, front_marks, main_columns, ranking_rows, tie_marks
from orchestrator.reporting.sections import counted, front_caption, segmenter_result
from orchestrator.search.stopped_trials import stopped_sentence
from orchestrator.text import short_names

LEAST_AXIS = 8
"""Characters of an axis in a table that is made to fit."""


def ranked_table(content: Mapping[str, Any], limit: int = 20) -> FittedTable:
    """The ranking for a terminal, with rank and the metric that it is by however narrow that is."""
    metrics, axes = main_columns(content), list(short_names(content["axes"]).values())
    marks = {"tie": tie_marks(content), "front": front_marks(content)}
    shown = {name: cells for name, cells in marks.items() if cells is not None}
    rows = ranking_rows(content, metrics)[:limit]
    columns = dict(zip(["#", *axes, *metrics], zip(*rows, strict=True), strict=True)) if rows else {}
    columns |= {name: tuple(cells[:limit]) for name, cells in shown.items()}

    def made(left_out: Collection[str]) -> Table:
        table = Table(title=f"{content['name']}: ranked by {content['rank']['metric']}", title_justify="left")
        kept = [name for name in ["#", *axes, *metrics, *shown] if name not in left_out]
        for name in kept:
            options: dict[str, Any] = {"overflow": "fold"} if name in axes else {"no_wrap": True}
            table.add_column(escape(name), justify="right" if name in ("#", *metrics) else "left", **options)
        for position in range(len(rows)):
            table.add_row(*(escape(columns[name][position]) for name in kept))
        return table

    others = [name for name in metrics if name != content["rank"]["metric"]]
    return FittedTable(made, [*others, *shown, *reversed(axes)], LEAST_AXIS, "; the report has it all")


def print_results(content: Mapping[str, Any]) -> None:
    console = Console(width=None if os.isatty(1) else WIDE, highlight=False)
    console.print(ranked_table(content))
    if front_marks(content) is not None:
        console.print(f"{FRONT}: {front_caption(content['pareto'])}", markup=False)
    for job in content["segmentation"]:
        if job["metrics"]:
            console.print(f"segmenter on labels {job['title']}: {segmenter_result(job)}", markup=False)
    for line in content["remarks"]:
        console.print(f"note: {line}", markup=False)
    if content["stopped"]:
        console.print(stopped_sentence(content["stopped"]), markup=False)
    for title, why in content["unranked"].items():
        console.print(f"not ranked: {title}: {why}", markup=False)
    console.print(f"background threshold: {content['protocol']['threshold']}")
    console.print(f"classes: {counted(content)}", markup=False)
    for line in paper_lines(content):
        console.print(line, markup=False)


def print_answer(content: Mapping[str, Any]) -> None:
    """What the sweep's results say to its question; a terminal's last lines."""
    for sentence in content["answer"]["sentences"]:
        print(f"answer: {sentence}")
