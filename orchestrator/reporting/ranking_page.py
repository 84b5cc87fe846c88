"""The ranking of an HTML report: short columns, numbers to sort by, and what a row opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.reporting.latex import latex_table
from orchestrator.reporting.ranking_csv import ranking_csv
from orchestrator.reporting.ranking_table import front_marks, main_columns, tie_marks, winners
from orchestrator.reporting.sections import Table, difference
from orchestrator.results.configurations import MOST_DETAILED
from orchestrator.spec.metrics import better, called, known, number
from orchestrator.text import short_names, shown_beside

MOST_CHOICES = 12


@dataclass(frozen=True)
class Column:
    name: str
    full: str
    text: bool = False
    descending: bool = False
    """The order that a first click gives."""


@dataclass(frozen=True)
class Cell:
    text: str
    value: float | None = None
    spread: str = ""


def ranking_of_page(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of the ranking; axes that do not vary are in each row's configuration alone."""
    entries = content["ranking"][:MOST_DETAILED]
    texts, names = shown_beside([entry["config"] for entry in content["ranking"]]), short_names(content["axes"])
    axes = [key for key in content["axes"] if len({text.get(key) for text in texts}) > 1]
    metrics = sorted(main_columns(content), key=lambda name: name != content["rank"]["metric"])  # what ranks goes first
    marks = {name: cells for name, cells in _marks(content).items() if cells is not None}
    columns = [
        Column("#", "rank"),
        *(Column(names[key], key, text=True) for key in axes),
        *(Column(called(name), _caption(name), descending=better(name) != "min") for name in metrics),
        *(Column(name, full, text=True) for name, full in MARKS.items() if name in marks),
    ]
    rows = [
        [
            Cell(str(position + 1)),
            *(Cell(texts[position].get(key, "")) for key in axes),
            *(_cell(name, entry) for name in metrics),
            *(Cell(cells[position]) for cells in marks.values()),
        ]
        for position, entry in enumerate(entries)
    ]
    table = Table(
        [column.name for column in columns],
        [[f"{cell.text} {cell.spread}".strip() for cell in row] for row in rows],
        marked=winners(content),
        text=frozenset(index for index, column in enumerate(columns) if column.text),
    )
    left = len(content["ranking"]) - len(entries)
    return {
        "by": f"{called(content['rank']['metric'])} ({content['rank']['metric']})",
        "columns": columns,
        "rows": rows,
        "marked": winners(content),
        "choices": _choices(columns, rows),
        "csv": ranking_csv(content),
        "latex": latex_table(f"{content['name']}: ranking", table),
        "details": json.dumps(_details(content), separators=(",", ":")).replace("<", "\\u003c"),
        "left_out": f"{left} more configurations are in ranking.csv (aream report NAME --csv)." if left else "",
    }


LINKED = ("http://", "https://")
MARKS = {"tie": "seed noise does not tell it from the best", "front": "on the Pareto front"}


def _marks(content: Mapping[str, Any]) -> dict[str, list[str] | None]:
    return {"tie": tie_marks(content), "front": front_marks(content)}


def _caption(name: str) -> str:
    metric = known(name)
    return name if metric is None else f"{name}: {metric.caption}"


def _cell(name: str, entry: Mapping[str, Any]) -> Cell:
    value, spread = entry["metrics"].get(name), entry["spread"].get(name)
    return Cell(number(name, value), value, f"± {number(name, spread)}" if spread else "")


def _choices(columns: list[Column], rows: list[list[Cell]]) -> list[dict[str, Any]]:
    """A list to choose from for each axis with few values."""
    found = []
    for index, column in enumerate(columns):
        values = sorted({row[index].text for row in rows} - {""})
        if column.text and column.name not in MARKS and 2 <= len(values) <= MOST_CHOICES:
            found.append({"column": index, "name": column.name, "options": values})
    return found


def _details(content: Mapping[str, Any]) -> dict[str, Any]:
    entries = content["ranking"][:MOST_DETAILED]
    return {
        "shared": content.get("settings", {}),
        "record": (content.get("record") or {}).get("command"),
        "rows": [
            {
                "settings": entry.get("settings", entry["config"]),
                "command": entry.get("command", ""),
                "metrics": _metrics(entry),
                "stages": _stages(content["name"], entry),
                "pages": [page for page in entry.get("pages", {}).items() if page[1].startswith(LINKED)],
            }
            for entry in entries
        ],
    }


def _metrics(entry: Mapping[str, Any]) -> str:
    lines = [f"{name}: {number(name, value, entry['spread'].get(name))}" for name, value in entry["metrics"].items()]
    pair = entry.get("paired")
    return "\n".join([*lines, *([f"difference to the baseline: {difference(pair)}"] if pair else [])])


def _stages(sweep: str, entry: Mapping[str, Any]) -> str:
    """Keys by seed, and the commands that show and export them."""
    lines = []
    for seed, training in zip(entry.get("seeds", ()), entry["trial_keys"], strict=False):
        analyses = [keys[str(seed)] for keys in entry.get("analyses", {}).values() if str(seed) in keys]
        labels = entry.get("label_artifacts", {}).get(str(seed), entry["label_artifact"])
        lines.append(f"seed {seed}: {' '.join([training, labels, *analyses])}")
    best = entry["label_artifact"]
    lines += [
        f"aream artifacts show {best} --sweep {sweep}",
        f"aream artifacts export {best} labels_of_{best.rpartition('-')[2]} --sweep {sweep}",
    ]
    return "\n".join(lines)
