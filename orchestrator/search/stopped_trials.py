"""Trials that a scheduler stopped early, and its settings: only under the same ones do later runs leave them out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.config import plain
from orchestrator.monitor.state import SweepState
from workers.processes.atomic_write import StateFile, write_json

if TYPE_CHECKING:
    from orchestrator.spec.axes import Values
    from orchestrator.spec.settings import Scheduler
    from workers.stage import Row

BY_SCHEDULER = "stopped early by the scheduler"
BY_HAND = "stopped from another terminal"


@dataclass(frozen=True)
class Seen:
    """An earlier trial that a scheduler is shown but no longer judges."""

    values: Values
    seed: int
    rows: Sequence[Row]
    """One an epoch, as far as the trial came."""


@dataclass(frozen=True)
class Stopped:
    scheduler: Mapping[str, Any] | None = None
    """Settings of the scheduler that stopped them."""
    trials: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Key -> its epochs with the scheduler's metric."""

    def by(self, scheduler: Scheduler | None) -> Mapping[str, Sequence[Row]]:
        """Trials that a scheduler with these settings stopped; without a scheduler, every trial runs to its end."""
        return self.trials if scheduler is not None and self.scheduler == plain(scheduler) else {}


def read_stopped(path: Path) -> Stopped:
    """The trials that were stopped early, in this run or an earlier one; none of a damaged file: they run on."""
    file = StateFile(path, "which trials the scheduler stopped early", "they run on, and are judged again", _parse)
    return file.read_or_begin_anew() or Stopped()


def add_stopped(path: Path, scheduler: Scheduler, key: str, rows: Sequence[Row]) -> None:
    """Keep one more; those of a scheduler with other settings are forgotten, since they run on."""
    known = read_stopped(path).by(scheduler)
    if key not in known:
        epochs = [{name: row[name] for name in ("epoch", scheduler.metric)} for row in rows if scheduler.metric in row]
        write_json(path, {"scheduler": plain(scheduler), "trials": {**known, key: epochs}})


def stopped_tasks(state: SweepState) -> dict[str, str]:
    """Title -> why, of the trials that are missing in the ranking because they were stopped."""
    return {task.title: task.error or BY_SCHEDULER for task in state.tasks.values() if task.status == "stopped"}


def stopped_sentence(stopped: Mapping[str, str]) -> str:
    """Empty where none was."""
    if not stopped:
        return ""
    by_hand = sum(reason == BY_HAND for reason in stopped.values())
    ways = [f"{len(stopped) - by_hand} by the scheduler: they run on without it, or with other settings of it"]
    ways = ways if len(stopped) > by_hand else []
    ways += [f"{by_hand} by hand, until `control resume --trial`"] if by_hand else []
    return f"{len(stopped)} stopped early and not ranked ({'; '.join(ways)})"


def _parse(content: bytes) -> Stopped:
    given = json.loads(content)
    trials = {
        str(key): [{str(name): _number(value) for name, value in row.items()} for row in rows]
        for key, rows in given["trials"].items()
    }
    return Stopped(dict(given["scheduler"]), trials)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"need a number, got {value!r}")
    return float(value)
