"""The dataset of a sweep that ran, opened for looking at its images and masks."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from aream.data.dataset import Dataset
from aream.errors import AreamError
from orchestrator.spec.recorded import recorded_component
from orchestrator.spec.recorded_plugins import activate_recorded, read_recorded
from workers.components import build_dataset

log = logging.getLogger(__name__)
DATASETS = "aream.datasets"


def open_dataset(folder: Path) -> Dataset:
    """The dataset that the sweep's ``config.json`` names; the sweep's plug-ins are activated too.

    Args:
        folder: the sweep's.

    Raises:
        AreamError: the sweep was not started, its images are not where they were, or the dataset is a plug-in that is
            not as it was.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        data = config["data"]
        module = f"{DATASETS}.{data['name']}"
        recorded = read_recorded(config)
    except FileNotFoundError:
        raise AreamError(f"{folder}: this sweep has not been started") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AreamError(f"{path}: cannot be read ({error}); run the sweep again to write it anew") from error
    unusable = activate_recorded(recorded)
    if module in unusable:
        raise AreamError(unusable[module])
    for why in unusable.values():
        log.warning("warning: %s: %s; what needs it is left out", path, why)
    return build_dataset(recorded_component(DATASETS, data, "data"))


def sweep_dataset(folder: Path) -> Dataset | None:
    """The same; None, and a warning, where it cannot be opened, which is no reason to have no report."""
    try:
        return open_dataset(folder)
    except (AreamError, OSError) as error:
        log.warning("warning: the report is without its images and the figures made of them: %s", error)
        return None
