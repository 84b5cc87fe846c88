"""A sweep's summary and report, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.config import canonical
from orchestrator.reporting.html import html_page, overlays
from orchestrator.reporting.markdown import markdown_page
from orchestrator.reporting.summary import Summary
from orchestrator.results.records import Records
from orchestrator.workspace import Workspace
from workers.artifacts.store import ArtifactStore
from workers.processes.atomic_write import write_json

if TYPE_CHECKING:
    from workers.artifacts.store import ArtifactStore


def write_summary(
    summary: Summary, workspace: Workspace, store: ArtifactStore, records: Records | None = None
) -> list[Path]:
    """Write summary.json, report.html, report.md and figures; returns what a tracker should keep.

    Args:
        records: what is known of the artifacts already; None: the store tells.
    """
    content = summary.to_json(records or store)
    canonical(content)  # refuses NaN and anything that is not plain data before it is written
    write_json(workspace.summary_file, content, indent=1)
    return [workspace.summary_file, *write_report(content, store, workspace.folder)]


def write_report(content: Mapping[str, Any], store: ArtifactStore, folder: Path) -> list[Path]:
    """Write both reports and their figures into ``folder``; returns every file written."""
    from orchestrator.reporting.analyses import analysis_results, analysis_sections
    from orchestrator.reporting.answer_section import answer_section, effects_section
    from orchestrator.reporting.comparisons import comparison_sections
    from orchestrator.reporting.figures.protocol import FigureInput, draw_figures
    from orchestrator.reporting.sections import ranking_section, sections
    from workers.processes.atomic_write import write_text

    analyses = analysis_results(content, store)
    figures = draw_figures(FigureInput(content, store, analyses), folder / "figures")
    first = [part for part in (answer_section(content), effects_section(content)) if part is not None]
    parts = [*first, ranking_section(content), *comparison_sections(content), *sections(content)]
    parts += analysis_sections(analyses)
    write_text(folder / "report.html", html_page(content, parts, figures, overlays(content, store)))
    write_text(folder / "report.md", markdown_page(content, parts, figures))
    return [folder / "report.html", folder / "report.md", *(path for path, _ in figures)]
