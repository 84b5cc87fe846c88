"""Drawing helpers for all pictures of a report: figures without a window, saving, short names."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from orchestrator.text import show, telling
from workers.artifacts.store import ArtifactStore
from workers.processes.atomic_write import write_bytes

DPI = 130


def new_figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG whose bytes depend on the picture alone."""
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(path, picture.getvalue())
    return path


def shortened(text: str, most: int) -> str:
    """Plain for matplotlib, which reads formulas between dollar signs; values often differ at their ends alone."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
    return text.replace("$", r"\$")


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


CURVES = 6


def readable(store: ArtifactStore, key: str) -> Path | None:
    """The artifact's folder; None where it is gone or damaged, which is no reason to have no report."""
    try:
        return store.get(key)
    except (ArtifactNotFound, ArtifactCorrupt):
        return None
