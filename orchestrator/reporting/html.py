"""The report as one HTML page, with its figures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.reporting.sections import Section, Table
    from workers.artifacts.store import ArtifactStore


OVERLAYS = 6


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1d2129; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow: auto; max-height: 75vh; }
th, td { border: 1px solid #d5d9e0; padding: 4px 10px; text-align: right; white-space: nowrap; }
th { background: #f2f4f7; position: sticky; top: 0; } tr.best td { background: #eef8ee; }
td:first-child, td.text, th.text { text-align: left; } td.text { white-space: normal; max-width: 22em; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption { color: #58606e; font-size: 13px; }
.small { color: #58606e; font-size: 13px; }
"""


def html_page(
    content: Mapping[str, Any],
    parts: Sequence[Section],
    figures: Sequence[tuple[Path, str]],
    overlays: Sequence[tuple[Path, str]],
) -> str:
    body = [f"<h1>{html.escape(content['name'])}</h1><p>{html.escape(content['question'])}</p>"]
    body += [_html_section(part) for part in parts]
    if figures:
        body.append("<h2>Figures</h2>" + "".join(_figure(path, caption) for path, caption in figures))
    if overlays:
        body.append("<h2>Overlays</h2><p class=small>image, CAM, pseudo-label, ground truth; white is ignored</p>")
        body.append("".join(_figure(path, caption) for path, caption in overlays))
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    made = f"{content['created']}; code {content['code']}; {versions}"
    body.append(f"<p class=small>{html.escape(made)}</p>")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(content['name'])}</title>"
        f"<style>{STYLE}</style><body>{''.join(body)}</body></html>"
    )


def _html_section(part: Section) -> str:
    sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in part.sentences)
    points = "".join(f"<li>{html.escape(point)}</li>" for point in part.points)
    table = _html_table(part.table) if part.table else ""
    return f"<h2>{html.escape(part.heading)}</h2>{sentences}{table}" + (f"<ul>{points}</ul>" if points else "")


def _html_table(table: Table) -> str:
    head = "".join(
        f"<th{' class=text' if column in table.text else ''}>{html.escape(name)}</th>"
        for column, name in enumerate(table.header)
    )
    rows = "".join(
        f"<tr{' class=best' if index in table.marked else ''}>"
        + "".join(
            f"<td class=text>{html.escape(cell).replace(',', ',<wbr>')}</td>"
            if column in table.text
            else f"<td>{html.escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for index, row in enumerate(table.rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _figure(path: Path, caption: str) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><img src='data:image/png;base64,{encoded}' alt='{html.escape(caption)}'>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def overlays(content: Mapping[str, Any], store: ArtifactStore) -> list[tuple[Path, str]]:
    """Overlays of the best configuration's labels, each with its image id."""
    from orchestrator.reporting.drawing import readable

    folder = readable(store, content["ranking"][0]["label_artifact"]) if content["ranking"] else None
    return [] if folder is None else [(path, path.stem) for path in sorted(folder.glob("overlays/*.png"))[:OVERLAYS]]
