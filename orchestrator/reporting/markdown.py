"""The report as Markdown."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.reporting.sections import Section, Table


def markdown_page(content: Mapping[str, Any], parts: Sequence[Section], figures: Sequence[tuple[Path, str]]) -> str:
    lines = [f"# {as_markdown(content['name'])}", "", as_markdown(content["question"])]
    for part in parts:
        lines += ["", f"## {as_markdown(part.heading)}", ""]
        for sentence in part.sentences:
            lines += [as_markdown(sentence), ""]
        if part.table:
            lines += _markdown_table(part.table)
            lines += [""] if part.points else []
        lines += [f"- {as_markdown(point)}" for point in part.points]
    lines += [f"\n![{as_markdown(caption)}](figures/{path.name})" for path, caption in figures]
    lines += ["", f"Code {as_markdown(content['code'])}; {as_markdown(content['created'])}"]
    return "\n".join(lines) + "\n"


def _markdown_table(table: Table) -> list[str]:
    header = "| " + " | ".join(map(as_markdown, table.header)) + " |"
    rows = ["| " + " | ".join(map(as_markdown, row)) + " |" for row in table.rows]
    return [header, "|" + "---|" * len(table.header), *rows]


def as_markdown(text: str) -> str:
    """Plain text as Markdown: one line, no cell borders, links or tags of its own."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[").replace("`", "\\`")
