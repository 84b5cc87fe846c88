"""What the driver knows of a running sweep, kept in one small file that ``status`` reads from another terminal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SAVE_EVERY_S = 1.0
DONE = ("done", "failed", "stopped")


@dataclass
class TaskState:
    """One trial, prelude stage or segmentation job."""

    key: str
    title: str
    kind: str
    status: str = "waiting"
    """waiting, running, done, failed, or stopped (pruned by the scheduler)."""
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    cached: bool = False
    """Answered from the store."""


class SweepState:
    """All tasks of a sweep; every change is saved, at most once a second."""

    def __init__(self, path: Path, name: str, clock: Callable[[], float] = time.time) -> None:
        self.path, self.name, self.clock = path, name, clock
        self.tasks: dict[str, TaskState] = {}
        self.phase = "planning"
        self.problem: str | None = None
        self.started = clock()
        self._saved = 0.0

    def add(self, key: str, title: str, kind: str, epochs: int) -> TaskState:
        return self.tasks.setdefault(key, TaskState(key, title, kind, epochs=epochs))

    def update(self, key: str, **changes: Any) -> None:
        task = self.tasks[key]
        status = changes.get("status")
        if status == "running" and task.started is None:
            task.started = self.clock()
        if status in DONE:
            task.ended = self.clock()
        for name, value in changes.items():
            setattr(task, name, value)
        if status == "done":
            task.epoch = task.epochs
        self.save(soon=status is None)

    def row(self, key: str, row: Mapping[str, float]) -> None:
        task = self.tasks[key]
        self.update(key, metrics={**task.metrics, **row}, epoch=int(row.get("epoch", task.epoch)))

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for task in self.tasks.values():
            counts[task.status] = counts.get(task.status, 0) + 1
        return counts

    def eta_s(self) -> float | None:
        """Seconds left, from the mean time of finished tasks of each kind and how many run beside each other."""
        left, now = 0.0, self.clock()
        running = max(1, sum(task.status == "running" for task in self.tasks.values()))
        for task in self.tasks.values():
            if task.status in DONE:
                continue
            times = [
                other.ended - other.started
                for other in self.tasks.values()
                if other.kind == task.kind and other.status == "done" and not other.cached
                and other.started is not None and other.ended is not None
            ]  # fmt: skip
            spent = now - task.started if task.started is not None else 0.0
            if times:
                left += max(0.0, sum(times) / len(times) - spent)
            elif task.epoch and task.epochs:
                left += spent / task.epoch * (task.epochs - task.epoch)
            else:
                return None
        return left / running

    def save(self, soon: bool = False) -> None:
        """Write the file; ``soon`` may leave it to a later call."""
        now = time.monotonic()
        if soon and now - self._saved < SAVE_EVERY_S:
            return
        self._saved = now
        content = {
            "name": self.name,
            "phase": self.phase,
            "problem": self.problem,
            "pid": os.getpid(),
            "started": self.started,
            "saved": self.clock(),
            "eta_s": self.eta_s(),
            "tasks": [asdict(task) for task in self.tasks.values()],
        }
        replace_text(self.path, json.dumps(content, indent=1))


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    beside.write_text(text)
    os.replace(beside, path)
