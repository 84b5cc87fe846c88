"""The dataset of a sweep that ran, opened for looking at its images and masks."""

from __future__ import annotations

import json
from pathlib import Path

from aream.data.dataset import Dataset
from aream.errors import AreamError
from orchestrator.spec.build import build_component, strict
from workers.components import build_dataset


def open_dataset(folder: Path) -> Dataset:
    """The dataset that the sweep's ``config.json`` names.

    Args:
        folder: the sweep's.

    Raises:
        AreamError: its images are not where they were.
        OSError: there is no such file.
    """
    data = json.loads((folder / "config.json").read_text())["data"]
    given = {"name": data["name"], **data["config"]}
    return build_dataset(strict(lambda report: build_component("aream.datasets", given, "data", report, None)))


def sweep_dataset(folder: Path) -> Dataset | None:
    """The same; None where it cannot be opened, which is no reason to have no report."""
    try:
        return open_dataset(folder)
    except (AreamError, OSError, ValueError, KeyError):
        return None
