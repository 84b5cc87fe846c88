"""The report as one HTML page that needs nothing beside itself: figures, styles and script inside."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.reporting.environment import setup_texts
from orchestrator.reporting.latex import latex_table
from orchestrator.reporting.panels import Gallery
from orchestrator.reporting.ranking_csv import plain_cell
from orchestrator.reporting.ranking_page import ranking_of_page
from orchestrator.reporting.sections import Section, Table
from orchestrator.spec.metrics import called
from orchestrator.text import first_sentence

PAGE = Path(__file__).parent / "page"
MOST_VECTOR = 400_000
"""Bytes of an SVG that a page takes in."""


@dataclass(frozen=True)
class Report:
    """What a report is made of, however it is written down."""

    content: Mapping[str, Any]
    """Content of ``summary.json``."""
    answer: Section | None
    effects: Section | None
    ranking: Section
    parts: Sequence[Section]
    figures: Sequence[tuple[Path, str]] = ()

    @property
    def sections(self) -> list[Section]:
        """All of them, in the order of a page."""
        first = [part for part in (self.answer, self.effects) if part is not None]
        return [*first, self.ranking, *self.parts]


def html_page(report: Report, galleries: Sequence[Gallery], config: str) -> str:
    """
    Args:
        config: the sweep's whole configuration as text.
    """
    content = report.content
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    parts = [_part(part, f"part-{number}") for number, part in enumerate(report.parts)]
    effects = None if report.effects is None else _part(report.effects, "effects")
    figures = [_picture(*one) for one in report.figures]
    contents = [
        ("answer", "Answer"),
        *([("effects", report.effects.heading)] if report.effects is not None else []),
        ("ranking", "Ranking"),
        *([("figures", "Figures")] if figures else []),
        *((f"images-{number}", one.heading) for number, one in enumerate(galleries)),
        *((part["id"], part["heading"]) for part in parts),
        ("setup", "Set-up"),
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )

    question, about = first_sentence(content["question"])
    return environment.get_template("report.html.j2").render(
        name=content["name"],
        question=question,
        about=_NOTE_START.split(about) if about else [],
        answer=report.answer,
        facts=_facts(content),
        repeat=next((entry.get("command", "") for entry in content["ranking"]), ""),
        effects=effects,
        ranking=ranking_of_page(content),
        notes=report.ranking.points,
        figures=figures,
        galleries=galleries,
        parts=parts,
        contents=contents,
        setup=setup_texts(content, config),
        style=style,
        script=script,
        digests={"style": _digest(style), "script": _digest(script)},
    )


_NOTE_START = re.compile(r"\s(?=[A-Z][a-z]+: )")
"""Where a line such as `Cost: two hours` of a sweep's comment began."""


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, seeds = content["data"], content["seeds"]
    return [
        ("Made", f"{content['created'][:16].replace('T', ' ')} UTC"),
        ("Ranked by", called(content["rank"]["metric"])),
        ("Configurations", str(len(content["ranking"]))),
        ("Seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one ({seeds[0]})"),
        ("Data", f"{data['name']}, {data['train_images']} train and {data['val_images']} val images"),
        ("Threshold", content["protocol"]["threshold"]),
    ]


def _part(part: Section, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "heading": part.heading,
        "sentences": part.sentences,
        "points": part.points,
        "table": None if part.table is None else _table(part.heading, part.table),
    }


def _table(heading: str, table: Table) -> dict[str, Any]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([plain_cell(cell.replace("−", "-")) for cell in row] for row in (table.header, *table.rows))
    return {
        "heading": heading,
        "header": table.header,
        "rows": table.rows,
        "marked": table.marked,
        "text": table.text,
        "csv": text.getvalue(),
        "latex": latex_table(heading, table),
        "file": re.sub(r"[^A-Za-z0-9]+", "_", heading).strip("_").lower()[:80] or "table",
    }


def _picture(path: Path, caption: str) -> dict[str, str]:
    """As SVG where there is one that is not large, for any size of a screen; else as PNG."""
    vector = path.with_suffix(".svg")
    chosen, kind = (vector, "svg+xml") if vector.is_file() and vector.stat().st_size < MOST_VECTOR else (path, "png")
    encoded = base64.b64encode(chosen.read_bytes()).decode()
    return {"source": f"data:image/{kind};base64,{encoded}", "caption": caption}
