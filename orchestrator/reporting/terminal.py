"""The ranking and what else a finished sweep prints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.reporting.comparisons import paper_lines
from orchestrator.reporting.ranking_table import FRONT, front_marks, main_columns, ranking_rows
from orchestrator.reporting.sections import counted, front_caption, segmenter_result
from orchestrator.search.stopped_trials import stopped_sentence


def ranked_table(content: Mapping[str, Any], limit: int = 20) -> Table:
    """The ranking for a terminal."""
    table = Table(title=f"{content['name']}: ranked by {content['rank']['metric']}", title_justify="left")
    metrics = main_columns(content)
    table.add_column("#", justify="right")
    for key in content["axes"]:
        table.add_column(key.removeprefix("method.").removeprefix("inference."), overflow="fold")
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("front")
    for cells, mark in list(zip(ranking_rows(content, metrics), front_marks(content), strict=True))[:limit]:
        table.add_row(*map(escape, cells), mark)
    return table


def print_results(content: Mapping[str, Any]) -> None:
    width = None if os.isatty(1) else 140
    console = Console(width=width, highlight=False)
    console.print(ranked_table(content))
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
