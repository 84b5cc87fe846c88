"""report.html (self-contained) and report.md of a sweep, from its summary and the store; or its ranking as CSV.

python -m orchestrator.report NAME|SWEEP.yaml [--csv [FILE]]
"""

from __future__ import annotations

import base64
import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.entry import command, run

if TYPE_CHECKING:
    from orchestrator.report_sections import Section, Table
    from workers.artifacts.store import ArtifactStore

OVERLAYS = 6
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1d2129; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow: auto; max-height: 75vh; }
th, td { border: 1px solid #d5d9e0; padding: 4px 10px; text-align: right; white-space: nowrap; }
th { background: #f2f4f7; position: sticky; top: 0; } tr.best td { background: #eef8ee; }
td:first-child, td.text { text-align: left; } td.text { white-space: normal; max-width: 22em; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption { color: #58606e; font-size: 13px; }
.small { color: #58606e; font-size: 13px; }
"""


def write_report(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> list[Path]:
    """Write both reports and their figures into ``folder``; returns every file written."""
    from orchestrator.analysis_figures import draw_analyses
    from orchestrator.analysis_results import analysis_results, analysis_sections
    from orchestrator.comparison_sections import comparison_sections
    from orchestrator.figures import draw_figures
    from orchestrator.report_sections import sections
    from workers.atomic_write import write_text

    analyses = analysis_results(content, store)
    figures = draw_figures(content, store, folder / "figures") + draw_analyses(analyses, folder / "figures")
    ranking, *others = sections(content)
    parts = [ranking, *comparison_sections(content), *others, *analysis_sections(analyses)]
    write_text(folder / "report.html", _html(content, parts, figures, _overlays(content, store)))
    write_text(folder / "report.md", _markdown(content, parts, figures))
    return [folder / "report.html", folder / "report.md", *(path for path, _ in figures)]


def _markdown(content: Mapping[str, Any], parts: Sequence[Section], figures: Sequence[tuple[Path, str]]) -> str:
    lines = [f"# {_md(content['name'])}", "", _md(content["question"])]
    for part in parts:
        lines += ["", f"## {_md(part.heading)}", ""]
        for sentence in part.sentences:
            lines += [_md(sentence), ""]
        if part.table:
            lines += _markdown_table(part.table)
            lines += [""] if part.points else []
        lines += [f"- {_md(point)}" for point in part.points]
    lines += [f"\n![{_md(caption)}](figures/{path.name})" for path, caption in figures]
    lines += ["", f"Code {_md(content['code'])}; {_md(content['created'])}"]
    return "\n".join(lines) + "\n"


def _markdown_table(table: Table) -> list[str]:
    header = "| " + " | ".join(map(_md, table.header)) + " |"
    rows = ["| " + " | ".join(map(_md, row)) + " |" for row in table.rows]
    return [header, "|" + "---|" * len(table.header), *rows]


def _md(text: str) -> str:
    """Plain text as Markdown: one line, no cell borders, links or tags of its own."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[").replace("`", "\\`")


def _html(
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
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
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


def _overlays(content: Mapping[str, Any], store: ArtifactStore) -> list[tuple[Path, str]]:
    """Those of the best configuration's labels."""
    from orchestrator.figures import readable

    folder = readable(store, content["ranking"][0]["label_artifact"]) if content["ranking"] else None
    return [] if folder is None else [(path, path.stem) for path in sorted(folder.glob("overlays/*.png"))[:OVERLAYS]]


@command
def main(arguments: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.report", description="Write report.html and report.md."
    )
    parser.add_argument("sweep", help="name of a sweep under the runs folder, or its YAML")
    parser.add_argument("--runs", default="runs", help="the runs folder (default: runs; a YAML names its own)")
    parser.add_argument(
        "--csv",
        nargs="?",
        const="",
        metavar="FILE",
        help="write the ranking as CSV instead, a row a configuration and seed (default: ranking.csv beside the "
        "reports; -: print it)",
    )
    options = parser.parse_args(arguments)
    from orchestrator.locate import locate

    workplace = locate(options.sweep, options.runs)
    content = _summary(workplace.summary_file)
    if options.csv is not None:
        _write_csv(content, options.csv or str(workplace.folder / "ranking.csv"))
        return 0
    for path in write_report(content, workplace.store(), workplace.folder)[:2]:
        print(path)
    return 0


def _summary(path: Path) -> dict[str, Any]:
    from aream.errors import AreamError
    from workers.atomic_write import StateFile

    def parse(text: bytes) -> dict[str, Any]:
        found = json.loads(text)
        if not isinstance(found, dict) or not isinstance(found.get("ranking"), list):
            raise ValueError("need a ranking")
        return found

    content = StateFile(path, "the sweep's results", "run the sweep again to write it anew", parse).read()
    if content is None:
        raise AreamError(f"{path}: the sweep has no results yet")
    return content


def _write_csv(content: Mapping[str, Any], target: str) -> None:
    from aream.errors import AreamError
    from orchestrator.spreadsheet import ranking_csv
    from workers.atomic_write import write_text

    text = ranking_csv(content)
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        write_text(Path(target), text)
    except OSError as error:
        raise AreamError(f"{target}: {error.strerror}") from error
    print(target)


if __name__ == "__main__":
    run(main)
