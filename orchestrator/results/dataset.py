"""The dataset of a sweep that ran, opened for looking at its images and masks."""

from __future__ import annotations

import json
from pathlib import Path

from aream.data.dataset import Dataset
from aream.errors import AreamError
from orchestrator.spec.recorded import recorded_component
from workers.components import build_dataset


def open_dataset(folder: Path) -> Dataset:
    """The dataset that the sweep's ``config.json`` names.

    Args:
        folder: the sweep's.

    Raises:
        AreamError: the sweep was not started, or its images are not where they were.
    """
    path = folder / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))["data"]
    except FileNotFoundError:
        raise AreamError(f"{folder}: this sweep has not been started") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AreamError(f"{path}: cannot be read ({error}); run the sweep again to write it anew") from error
    return build_dataset(recorded_component("aream.datasets", data, "data"))


def sweep_dataset(folder: Path) -> Dataset | None:
    """The same; None where it cannot be opened, which is no reason to have no report."""
    try:
        return open_dataset(folder)
    except (AreamError, OSError):
        return None
