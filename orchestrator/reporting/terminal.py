"""The ranking and what else a finished sweep prints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.reporting.comparisons import paper_lines
from orchestrator.reporting.ranking_table import FRONT, front_marks, main_columns, ranking_rows, tie_marks
from orchestrator.reporting.sections import counted, front_caption, segmenter_result
from orchestrator.search.stopped_trials import stopped_sentence
from orchestrator.text import short_names


def ranked_table(content: Mapping[str, Any], limit: int = 20) -> Table:
    """The ranking for a terminal."""
    table = Table(title=f"{content['name']}: ranked by {content['rank']['metric']}", title_justify="left")
    metrics, marks = main_columns(content), {"tie": tie_marks(content), "front": front_marks(content)}
    table.add_column("#", justify="right")
    for name in short_names(content["axes"]).values():
        table.add_column(escape(name), overflow="fold")
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    shown = {name: cells for name, cells in marks.items() if cells is not None}
    for name in shown:
        table.add_column(name, no_wrap=True)
    for position, cells in enumerate(ranking_rows(content, metrics)[:limit]):
        table.add_row(*map(escape, cells), *(cells[position] for cells in shown.values()))
    return table


def print_results(content: Mapping[str, Any]) -> None:
    width = None if os.isatty(1) else 140
    console = Console(width=width, highlight=False)
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
