"""The driver's state of a running sweep, kept in one small file that ``status`` reads from another terminal."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from aream.errors import AreamError
from orchestrator.monitor.forecast import Forecast, forecast
from orchestrator.monitor.tasks import ENDED, TaskState
from workers.processes.atomic_write import StateFile, write_json
from workers.processes.identity import Process
from workers.processes.masking import masked

OVER = ("finished", "interrupted", "failed", "stopped")
"""Prefixes of the phases in which no driver runs any more; a reason may follow."""
SAVE_EVERY_S, SAVE_SHARE = 1.0, 0.01
"""Not more often, and no larger share of the driver's time, unless what changed cannot wait."""
MANY_TASKS = 100
"""Number of tasks from which changes of status too may wait for the next save: the whole file is written each time."""
LIVE_EPOCH_S = 1.0
"""Rows that come faster are those a checkpoint or the store already had."""


class SweepState:
    """All tasks of a sweep; every change is saved, at most once a second."""

    def __init__(
        self,
        path: Path,
        name: str,
        clock: Callable[[], float] = time.time,
        expected: Mapping[str, int] | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        """
        Args:
            expected: how many tasks of a kind there will be at most, where they are not all added at the start.
            columns: metrics that are shown of every task.
        """
        self.path, self.name, self.clock = path, name, clock
        self.expected, self.columns = dict(expected or {}), tuple(columns)
        self.tasks: dict[str, TaskState] = {}
        self.phase = "planning"
        self.problem: str | None = None
        self.started = clock()
        self._saved = self._cost = 0.0
        self._behind = False

    def add(self, key: str, title: str, kind: str, epochs: int) -> TaskState:
        return self.tasks.setdefault(key, TaskState(key, title, kind, epochs=epochs))

    def update(self, key: str, **changes: Any) -> None:
        task = self.tasks[key]
        status = changes.get("status")
        if status == "running" and task.started is None:
            task.started = self.clock()
        elif status in ENDED:
            task.ended = self.clock()
        elif status is not None and status != "running":  # what it waits is no time it works
            task.started, task.row_at, task.live_epochs, task.live_seconds = None, None, 0, 0.0
        for name, value in changes.items():
            setattr(task, name, masked(value) if name == "error" and value else value)
        if status == "done":
            task.epoch = task.epochs
        self.save(soon=status is None or len(self.tasks) > MANY_TASKS)

    def row(self, key: str, row: Mapping[str, float]) -> None:
        task, now = self.tasks[key], self.clock()
        epoch = int(row.get("epoch", task.epoch))
        if "epoch" in row:
            if epoch > task.epoch and task.row_at is not None and now - task.row_at >= LIVE_EPOCH_S:
                task.live_epochs += epoch - task.epoch
                task.live_seconds += now - task.row_at
            task.row_at = now
        self.update(key, metrics={**task.metrics, **row}, epoch=epoch)

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            counts[task.status] = counts.get(task.status, 0) + 1
        return counts

    def forecast(self) -> Forecast:
        return forecast(self.tasks.values(), self.expected, self.clock())

    def save(self, soon: bool = False) -> None:
        """Write the file; ``soon`` may leave it to a later call, or to ``catch_up``."""
        now = time.monotonic()
        self._behind = soon and now - self._saved < max(SAVE_EVERY_S, self._cost / SAVE_SHARE)
        if self._behind:
            return
        left = self.forecast()
        content = {
            "name": self.name,
            "phase": self.phase,
            "columns": self.columns,
            "problem": self.problem,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": Process.this().token(),
            "started": self.started,
            "saved": self.clock(),
            "eta_s": left.eta_s,
            "eta_at_least_s": left.seconds,
            "expected": self.expected,
            "tasks": [vars(task) for task in self.tasks.values()],
        }
        write_json(self.path, content)  # indented, it would take several times as long
        self._saved = time.monotonic()
        self._cost = self._saved - now

    def catch_up(self) -> None:
        """Write what an earlier call left, if it is time; to be called every second or so."""
        if self._behind:
            self.save(soon=True)


def is_over(phase: str) -> bool:
    return phase.startswith(OVER)


def read_state(path: Path) -> dict[str, Any]:
    """The state file as it stands.

    Raises:
        AreamError: there is none, or it is no state of a sweep.
    """

    def parse(text: bytes) -> dict[str, Any]:
        content = json.loads(text)
        restored(content)
        return dict(content)

    go_on = "the sweep writes it anew while it runs: run its command again"
    content = StateFile(path, "the state of the sweep's tasks", go_on, parse).read()
    if content is None:
        raise AreamError(f"{path.parent}: this sweep has not been started")
    return content


def restored(content: Mapping[str, Any], clock: Callable[[], float] = time.time) -> SweepState:
    """The state that a file's content tells of; what another version wrote beside it is left out."""
    columns = [str(name) for name in content.get("columns", ())]
    state = SweepState(Path(), content["name"], clock, content.get("expected"), columns)
    state.phase, state.problem, state.started = content["phase"], content.get("problem"), float(content["started"])
    known = {own.name for own in fields(TaskState)}
    for task in content["tasks"]:
        state.tasks[task["key"]] = TaskState(**{name: value for name, value in task.items() if name in known})
    return state
