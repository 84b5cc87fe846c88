"""Protocol of a report figure: one file here, found by its name.

It holds ``draw(results, folder) -> Drawn``, which writes what the results allow into the folder, each figure as PNG,
SVG and PDF with its numbers as CSV, and returns each PNG with its caption, and ``PLACE``: the report shows figures in
its order, those of one place by name. It is called within :func:`orchestrator.reporting.drawing.style`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from aream import discover
from aream.data.dataset import Dataset
from orchestrator.reporting import figures
from orchestrator.reporting.analyses import AnalysisResult
from orchestrator.reporting.drawing import style
from workers.artifacts.store import ArtifactStore

Drawn = list[tuple[Path, str]]
"""Files with their captions."""


@dataclass(frozen=True)
class FigureInput:
    """Input of a report figure."""

    content: Mapping[str, Any]
    """Content of ``summary.json``."""
    store: ArtifactStore
    analyses: Sequence[AnalysisResult] = ()
    dataset: Dataset | None = None
    """None where the sweep's images cannot be read any more."""


class ReportFigure(Protocol):
    PLACE: int

    def draw(self, results: FigureInput, folder: Path) -> Drawn:
        """Write what the results allow; nothing where they allow none."""
        ...


def draw_figures(results: FigureInput, folder: Path) -> Drawn:
    """Every figure of this package that the results allow, in the report's order."""
    folder.mkdir(parents=True, exist_ok=True)
    modules = {name: cast(ReportFigure, discover.load(figures, name)) for name in discover.names(figures)}
    ordered = sorted(modules, key=lambda name: (modules[name].PLACE, name))
    with style():
        return [drawn for name in ordered for drawn in modules[name].draw(results, folder)]
