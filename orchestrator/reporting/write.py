"""A sweep's summary and report, as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.config import canonical
from orchestrator.reporting.html import Report, html_page
from orchestrator.reporting.markdown import markdown_page
from orchestrator.reporting.summary import Summary
from orchestrator.results.records import Records
from orchestrator.workspace import Workspace
from workers.artifacts.store import ArtifactStore
from workers.processes.atomic_write import write_json

if TYPE_CHECKING:
    from orchestrator.reporting.analyses import AnalysisResult


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
    from orchestrator.reporting.analyses import analysis_results
    from orchestrator.reporting.figures.protocol import FigureInput, draw_figures
    from orchestrator.reporting.gallery import gallery
    from orchestrator.reporting.segmenter_gallery import segmenter_gallery
    from orchestrator.results.dataset import sweep_dataset
    from workers.processes.atomic_write import write_text

    analyses = analysis_results(content, store)
    dataset = sweep_dataset(folder)
    figures = draw_figures(FigureInput(content, store, analyses, dataset), folder / "figures")
    report = _report(content, analyses, figures)
    galleries = [made for find in (gallery, segmenter_gallery) if (made := find(content, store, dataset)) is not None]
    write_text(folder / "report.html", html_page(report, galleries, _configuration(folder)))
    write_text(folder / "report.md", markdown_page(content, report.sections, figures))
    return [folder / "report.html", folder / "report.md", *(path for path, _ in figures)]


def latex_tables(content: Mapping[str, Any], store: ArtifactStore) -> str:
    """Every table of the report for a paper."""
    from orchestrator.reporting.analyses import analysis_results
    from orchestrator.reporting.latex import PREAMBLE, latex_table
    from orchestrator.reporting.ranking_page import ranking_of_page

    report = _report(content, analysis_results(content, store), ())
    others = [part for part in (report.effects, *report.parts) if part is not None and part.table is not None]
    tables = [latex_table(part.heading, part.table) for part in others if part.table is not None]
    return "\n".join([PREAMBLE, ranking_of_page(content)["latex"], *tables])


def _report(
    content: Mapping[str, Any], analyses: Sequence[AnalysisResult], figures: Sequence[tuple[Path, str]]
) -> Report:
    from orchestrator.reporting.analyses import analysis_sections
    from orchestrator.reporting.answer_section import answer_section, effects_section
    from orchestrator.reporting.comparisons import comparison_sections
    from orchestrator.reporting.sections import ranking_section, sections

    parts = [*comparison_sections(content), *sections(content), *analysis_sections(analyses)]
    return Report(content, answer_section(content), effects_section(content), ranking_section(content), parts, figures)


def _configuration(folder: Path) -> str:
    """The sweep's whole configuration as YAML; empty where the folder has none that can be read."""
    from orchestrator.submission.readable_yaml import readable

    try:
        return readable(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""
