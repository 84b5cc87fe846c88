"""Drawing helpers for all pictures of a report: one style, files of every kind with their numbers, short names."""

from __future__ import annotations

import contextlib
import csv
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from orchestrator.text import show, telling
from workers.artifacts.store import ArtifactStore
from workers.processes.atomic_write import write_bytes, write_text

STYLE = Path(__file__).parent / "page" / "figures.mplstyle"
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Kinds of files of a figure, with what keeps time and program out of them."""
BAND = 0.18
"""Opacity of the spread around a line."""
TITLE_WIDTH = 38
"""Characters above a panel."""
CURVES = 6
"""Configurations that a figure of curves shows."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The look of all figures, whatever the machine's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(STYLE, use_default_template=False))
        yield


def new_figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def panels(count: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, list[Any]]:
    """Small multiples: a figure and the axes of so many panels, each of so many inches."""
    across = min(columns, count)
    down = -(-count // across)
    figure = Figure(figsize=(max(width * across, 3.6), height * down))
    grid = list(figure.subplots(down, across, squeeze=False, **shared).flat)
    for unused in grid[count:]:
        unused.set_visible(False)
    for axes in grid[max(0, count - across) : count]:
        axes.tick_params(labelbottom=True)
    return figure, grid[:count]


def save(figure: Figure, path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write a picture as PNG at twice a screen's size, SVG and PDF, whose bytes depend on it alone, and its numbers as
    CSV beside them.

    Args:
        path: of the PNG, which is returned.
    """
    for kind in FORMATS:
        write_picture(figure, path.with_suffix(f".{kind}"), kind)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path.with_suffix(".csv"), text.getvalue())
    return path


def write_picture(figure: Figure, path: Path, kind: str = "png") -> None:
    """Write one kind of file, whatever its name ends with."""
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, metadata=FORMATS[kind])
    write_bytes(path, picture.getvalue())


def name_lines(axes: Any, figure: Figure, columns: int = 2) -> None:
    """One legend for all panels, above them."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside upper left", ncols=columns)


def shortened(text: str, most: int) -> str:
    """Plain for matplotlib, which reads formulas between dollar signs; values often differ at their ends alone."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
    return text.replace("$", r"\$")


def wrapped(title: str) -> str:
    """A panel's title on two lines at most."""
    return "\n".join(textwrap.wrap(title, TITLE_WIDTH, max_lines=2, placeholder=" …"))


def config_title(config: Mapping[str, Any], most: int = 70) -> str:
    """A configuration for a legend."""
    return shortened(", ".join(f"{key.split('.')[-1]}={show(value)}" for key, value in config.items()) or "base", most)


def line_titles(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A title each: of components the name and the settings that vary between those of one name; whole sections, which
    go with another axis, only where titles would be equal without."""
    short = [{key: _short(key, value, configs) for key, value in config.items()} for config in configs]
    kept = [{key: value for key, value in config.items() if value is not None} for config in short]
    titles = [config_title(config) for config in kept]
    return titles if len(set(titles)) == len(titles) else [config_title(config) for config in configs]


def _short(key: str, value: Any, configs: Sequence[Mapping[str, Any]]) -> Any:
    if isinstance(value, Mapping) and "name" not in value:
        return None
    return telling(value, [config[key] for config in configs if key in config])


def read_file(store: ArtifactStore, key: str, path: str) -> bytes | None:
    """One file of an artifact; None where it is gone or damaged, which is no reason to have no report."""
    try:
        return store.read(key, path)
    except (ArtifactNotFound, ArtifactCorrupt):
        return None


def readable(store: ArtifactStore, key: str) -> Path | None:
    """The artifact's folder; None where it is gone or damaged, which is no reason to have no report."""
    try:
        return store.get(key)
    except (ArtifactNotFound, ArtifactCorrupt):
        return None
