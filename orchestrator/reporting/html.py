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
from markupsafe import Markup

from orchestrator.reporting.environment import setup_texts
from orchestrator.reporting.latex import latex_table
from orchestrator.reporting.ranking_csv import plain_cell
from orchestrator.reporting.ranking_page import ranking_of_page
from orchestrator.reporting.sections import Section, Table
from orchestrator.spec.metrics import called
from workers.artifacts.store import ArtifactStore

PAGE = Path(__file__).parent / "page"
OVERLAYS = 6


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


def html_page(report: Report, overlays: Sequence[tuple[Path, str]], config: str) -> str:
    """
    Args:
        config: the sweep's whole configuration as text.
    """
    content = report.content
    style, script = ((PAGE / name).read_text() for name in ("report.css", "report.js"))
    parts = [_part(part, f"part-{number}") for number, part in enumerate(report.parts)]
    effects = None if report.effects is None else _part(report.effects, "effects")
    figures, shown = [_picture(*one) for one in report.figures], [_picture(*one) for one in overlays]
    contents = [
        ("answer", "Answer"),
        *([("effects", report.effects.heading)] if report.effects is not None else []),
        ("ranking", "Ranking"),
        *([("figures", "Figures")] if figures else []),
        *([("overlays", "Overlays")] if shown else []),
        *((part["id"], part["heading"]) for part in parts),
        ("setup", "Set-up"),
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    ranking = ranking_of_page(content)
    return environment.get_template("report.html.j2").render(
        name=content["name"],
        question=content["question"],
        answer=report.answer,
        facts=_facts(content),
        repeat=next((entry.get("command", "") for entry in content["ranking"]), ""),
        effects=effects,
        ranking=ranking | {"details": Markup(ranking["details"])},
        notes=report.ranking.points,
        figures=figures,
        overlays=shown,
        parts=parts,
        contents=contents,
        setup=setup_texts(content, config),
        style=Markup(style),
        script=Markup(script),
        digests={"style": _digest(style), "script": _digest(script)},
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    data, seeds = content["data"], content["seeds"]
    return [
        ("Made", content["created"][:16].replace("T", " ")),
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
    writer.writerows([plain_cell(cell) for cell in row] for row in (table.header, *table.rows))
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
    encoded = base64.b64encode(path.read_bytes()).decode()
    return {"source": f"data:image/png;base64,{encoded}", "caption": caption}


def overlays(content: Mapping[str, Any], store: ArtifactStore) -> list[tuple[Path, str]]:
    """Overlays of the best configuration's labels, each with its image id."""
    from orchestrator.reporting.drawing import readable

    folder = readable(store, content["ranking"][0]["label_artifact"]) if content["ranking"] else None
    return [] if folder is None else [(path, path.stem) for path in sorted(folder.glob("overlays/*.png"))[:OVERLAYS]]
