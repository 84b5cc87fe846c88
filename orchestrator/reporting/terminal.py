"""The ranking and what else a finished sweep prints."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.reporting.comparisons import paper_lines
from orchestrator.reporting.sections import FRONT, counted, front_caption, segmenter_result
from orchestrator.search.stopped_trials import stopped_sentence
from orchestrator.spec.metrics import columns, number
from orchestrator.text import shown_beside


def ranked_table(content: Mapping[str, Any], limit: int = 20) -> Table:
    """The ranking for a terminal."""
    table = Table(title=f"{content['name']}: ranked by {content['rank']['metric']}", title_justify="left")
    metrics = _columns(content["rank"]["metric"], [entry["metrics"] for entry in content["ranking"]])
    front = content["pareto"]["front"]
    table.add_column("#", justify="right")
    for key in content["axes"]:
        table.add_column(key.removeprefix("method.").removeprefix("inference."), overflow="fold")
    for name in metrics:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("front")
    texts = shown_beside([entry["config"] for entry in content["ranking"]])
    for position, entry in enumerate(content["ranking"][:limit]):
        table.add_row(
            str(position + 1),
            *(escape(texts[position].get(key, "")) for key in content["axes"]),
            *(number(name, entry["metrics"].get(name), entry["spread"].get(name)) for name in metrics),
            FRONT if position in front else "",
        )
    return table


def print_results(content: Mapping[str, Any]) -> None:
    width = None if os.isatty(1) else 140
    console = Console(width=width, highlight=False)
    console.print(ranked_table(content))
    console.print(f"front: {FRONT} where {front_caption(content['pareto'])}", markup=False)
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


def _columns(ranked_by: str, results: Sequence[Mapping[str, float]]) -> list[str]:
    """What a table in a terminal or a description has room for: the main metrics, and what is ranked by."""
    wanted = dict.fromkeys([*columns("always"), ranked_by])
    return [name for name in wanted if any(name in metrics for metrics in results)]
