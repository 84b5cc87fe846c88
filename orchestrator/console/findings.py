"""Findings about a dataset as text for people."""

from __future__ import annotations

import io
import shutil

from rich.console import Console
from rich.table import Table

from aream.data.findings import Finding, Findings

EXAMPLES = 5
"""Shown of each kind; JSON has more."""
WIDTH = 120
"""Characters of a line without a terminal."""
CHECKS = ("root", "lists", "images", "masks", "labels", "label maps")


def render(found: Findings, title: str) -> str:
    """The table as plain text."""
    table = Table()
    for column in ("check", "split", "looked at", "verdict"):
        table.add_column(column, overflow="fold")
    numbered = list(enumerate(found, start=1))
    looked = {(one.check, one.split): f"{one.count} of {one.total}" for one in found.looked}
    rows = {**looked, **{(finding.check, finding.split): "" for finding in found if _row(finding) not in looked}}
    for check, split in sorted(rows, key=lambda row: (CHECKS.index(row[0]), row[1])):
        mine = [(number, finding) for number, finding in numbered if _row(finding) == (check, split)]
        table.add_row(check, split or "both", rows[check, split], _verdict(mine))
    console = Console(file=io.StringIO(), width=max(60, shutil.get_terminal_size((WIDTH, 0)).columns), markup=False)
    console.print(table)
    lines = [title, *(line.rstrip() for line in console.file.getvalue().splitlines())]  # type: ignore[attr-defined]
    for number, finding in numbered:
        lines += _words(number, finding)
    lines += [f"{_where(check, split)}: {words}" for check, split, words in found.notes]
    lines += [f"left out: {image}: {why}" for image, why in found.left_out.items()]
    return "\n".join(lines)


def _row(finding: Finding) -> tuple[str, str]:
    return finding.check, finding.split


def _verdict(numbered: list[tuple[int, Finding]]) -> str:
    if not numbered:
        return "ok"
    word = "WRONG" if any(finding.hard for _, finding in numbered) else "ok, but"
    return f"{word} {','.join(f'[{number}]' for number, _ in numbered)}"


def _words(number: int, finding: Finding) -> list[str]:
    warning = "" if finding.hard else "warning: "
    shown = finding.examples[:EXAMPLES]
    more = finding.count - len(shown)
    count = f": {finding.count}" if finding.count > 1 else ""  # one case is the line below
    return [
        f"[{number}] {warning}{finding.where}{count}",
        *(f"    {words}" for words in shown),
        *([f"    and {more} more"] if more else []),
    ]


def _where(check: str, split: str) -> str:
    return f"{check}, {split}" if split else check
