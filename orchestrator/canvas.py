"""What all pictures of a report share: matplotlib without a screen, how they are saved, short names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from orchestrator.plan import show

DPI = 130


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches, and its axes."""
    return plt.subplots(figsize=(width, height))


def save(figure: Any, path: Path) -> Path:
    """Write a PNG whose bytes depend on the picture alone."""
    figure.tight_layout()
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    return path


def shortened(text: str, most: int) -> str:
    """Plain for matplotlib, which reads formulas between dollar signs; values often differ at their ends alone."""
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
    return text.replace("$", r"\$")


def config_title(config: Mapping[str, Any], most: int = 70) -> str:
    """A configuration for a legend."""
    return shortened(", ".join(f"{key.split('.')[-1]}={show(value)}" for key, value in config.items()) or "base", most)
