"""How MLflow's UI opens on a sweep: a table of its configurations, by what they are ranked by.

The UI reads a state that somebody shares from a tag of the experiment, named by a key in the address; its fields are
those of MLflow 3.17, and what a later one does not know it leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.tracking.backends._mlflow_limits import allowed_name

KEY = "aream"
STATE = f"mlflow.sharedViewState.{KEY}"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Else an experiment opens on the traces of language models."""
CONFIGURATIONS = "tags.`aream.kind` = 'variant'"


def experiment_tags(metrics: Sequence[str], params: Sequence[str], best: str) -> Mapping[str, str]:
    """
    Args:
        metrics: columns; the first is what rows are sorted by.
        params: columns.
        best: max or min, the end that comes first.
    """
    first = _column("metrics", metrics[0])
    columns = [_column("params", name) for name in params] + [_column("metrics", name) for name in metrics]
    state: dict[str, Any] = {
        "searchFilter": CONFIGURATIONS,
        "orderByKey": first,
        "orderByAsc": best == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
    }
    return {**KIND, STATE: json.dumps(state)}


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{allowed_name(name)}`"
