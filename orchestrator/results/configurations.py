"""The whole configuration of every ranked row, and the command that runs one row alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from aream.config import plain
from orchestrator.spec.axes import Values
from orchestrator.spec.names import LONGEST_NAME
from orchestrator.spec.spec import SweepSpec
from workers.processes.masking import masked, masked_content
from workers.trial import TrialConfig

MOST_DETAILED = 2000
"""Configurations, the best ones, whose every setting and command is written down; a page shows no more."""
Settings = dict[str, Any]
"""Dotted key -> value, as a sweep file would give it."""


def settings(trial: TrialConfig) -> Settings:
    """A trial's every setting but its seed; without passwords."""
    return {key: value for key, value in _flat(masked_content(plain(trial))).items() if key != "seed"}


def told_apart(rows: Sequence[Settings]) -> tuple[Settings, list[Settings]]:
    """Settings that all rows share, and of each row the others."""
    first = rows[0] if rows else {}
    shared = {key: value for key, value in first.items() if all(key in row and row[key] == value for row in rows)}
    return shared, [{key: value for key, value in row.items() if key not in shared} for row in rows]


def command_for(spec: SweepSpec, config: Values, rank: int) -> str:
    """The command that runs one row's configuration alone, at every seed; what is stored is taken from the store."""
    axes, end = {key: [value] for key, value in config.items()}, f"_{rank}"
    name = f"{spec.name[: LONGEST_NAME - len(end)]}{end}"
    given = [*spec.overrides, f"name={name}", f"axes={json.dumps(axes, ensure_ascii=False)}"]
    given += ["search=null"] if spec.search else []
    given += ["scheduler=null"] if spec.scheduler else []
    given += ["paper=null"] if spec.paper else []
    words = ["aream", "sweep", str(spec.path), *(word for text in given for word in ("--set", masked(text)))]
    return shlex.join(words)


def _flat(value: Any, key: str = "") -> Settings:
    if isinstance(value, Mapping) and set(value) == {"name", "config"}:
        return {f"{key}.name": value["name"], **_flat(value["config"], key)}
    if isinstance(value, Mapping) and (value or not key):
        return {
            name: found for part, inner in value.items() for name, found in _flat(inner, _joined(key, part)).items()
        }
    return {} if isinstance(value, Mapping) else {key: value}


def _joined(key: str, part: str) -> str:
    return f"{key}.{part}" if key else part
