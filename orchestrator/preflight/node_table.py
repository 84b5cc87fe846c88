"""One table of what fails where: a row a node, a column a check, the failures in words below."""

from __future__ import annotations

import io
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from workers.checks.node import NodeFinding

COLUMNS = ("answers", "code", "gpu", "data", "weights", "store", "disk", "clock", "tracking")
WIDTH = 120
"""Characters of a line without a terminal."""


@dataclass
class Row:
    name: str
    checked: set[str] = field(default_factory=set)
    """Columns that have been looked at, or would have been."""
    findings: list[NodeFinding] = field(default_factory=list)
    note: str = ""
    """Reason why the node is not used; empty: it is."""


def refused(rows: Sequence[Row]) -> bool:
    return any(finding.hard for row in rows for finding in row.findings)


def render(rows: Sequence[Row], title: str) -> str:
    """The table as plain text; columns that nobody was asked about are left out."""
    shown = [column for column in COLUMNS if any(column in row.checked for row in rows)]
    table = Table(title=title, title_justify="left")
    for column in ("node", *shown):
        table.add_column(column, overflow="fold")
    legend: list[str] = []
    for row in rows:
        numbered = []
        for finding in row.findings:
            legend.append(f"[{len(legend) + 1}] {'' if finding.hard else 'warning: '}{row.name}: {finding.words}")
            numbered.append((len(legend), finding))
        table.add_row(row.name, *(_cell(column, row.checked, numbered) for column in shown))
        if row.note:
            legend.append(f"{row.name}: {row.note}")
    console = Console(file=io.StringIO(), width=max(60, shutil.get_terminal_size((WIDTH, 0)).columns), markup=False)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join([*(line.rstrip() for line in text.splitlines()), *legend])


def _cell(column: str, checked: Collection[str], numbered: Sequence[tuple[int, NodeFinding]]) -> str:
    if column not in checked:
        return "-"
    mine = [(number, finding) for number, finding in numbered if finding.column == column]
    if not mine:
        return "ok"
    word = "FAILS" if any(finding.hard for _, finding in mine) else "warns"
    return f"{word} {','.join(f'[{number}]' for number, _ in mine)}"
