"""Estimate a sweep's remaining time from the durations of its tasks so far; says what it cannot know."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.monitor.tasks import ENDED, ORDER
from orchestrator.spec.selection import selected_at_most

if TYPE_CHECKING:
    from orchestrator.monitor.tasks import TaskState
    from orchestrator.spec.spec import SweepSpec


@dataclass(frozen=True)
class Forecast:
    seconds: float
    """Remaining time of the work whose duration is known."""
    complete: bool
    """True if that is all remaining work; else ``seconds`` is a lower bound."""

    @property
    def eta_s(self) -> float | None:
        """None: unknown."""
        return self.seconds if self.complete else None


def expected_tasks(spec: SweepSpec) -> dict[str, int]:
    """Tasks that come up only while the sweep runs, by kind: at most so many."""
    expected = {"trial": spec.search.trials * len(spec.seeds)} if spec.search else {}
    if spec.segmentation is not None:
        select = spec.segmentation.select
        labels = 1 if spec.segmentation.labels is not None else selected_at_most(spec, select)
        expected["segmentation"] = labels * len(spec.seeds) * len(spec.segmentation_points())
    return expected


def forecast(tasks: Iterable[TaskState], expected: Mapping[str, int], now: float) -> Forecast:
    """Seconds until every task ended, those of a kind beside each other as many as were seen at once."""
    kinds: dict[str, list[TaskState]] = {kind: [] for kind in ORDER}
    for task in tasks:
        kinds.setdefault(task.kind, []).append(task)
    seconds, complete = 0.0, True
    for position, (kind, known) in enumerate(kinds.items()):
        later = any(others for others in list(kinds.values())[position + 1 :])
        coming = 0 if later else max(0, expected.get(kind, 0) - len(known))
        length, certain = _phase(known, coming, now)
        seconds, complete = seconds + length, complete and certain
    return Forecast(seconds, complete)


def task_seconds(task: TaskState, typical: float | None, now: float) -> tuple[float, bool]:
    """Seconds that a running or waiting task still takes, and whether its end was ever measured on another.

    Args:
        typical: what ``typical_seconds`` says of its kind.
    """
    spent = now - task.started if task.status == "running" and task.started is not None else 0.0
    known = task.status == "running" and task.epochs
    epochs = task.pace_s * (task.epochs - task.epoch) if known and task.pace_s else None
    if typical is None:
        return epochs or 0.0, False
    return max(0.0, typical - spent, epochs or 0.0), True


def _phase(known: Sequence[TaskState], coming: int, now: float) -> tuple[float, bool]:
    running = [task for task in known if task.status == "running"]
    waiting = [task for task in known if task.status == "waiting"]
    complete = len(running) + len(waiting) == sum(task.status not in ENDED for task in known)
    typical, slots = typical_seconds(known), []
    for task in running:
        left, certain = task_seconds(task, typical, now)
        slots.append(left)
        complete = complete and certain
    if waiting or coming:
        if typical is None:
            return max(slots, default=0.0), False
        slots += [0.0] * (_most_at_once(known, now) - len(slots))
        heapq.heapify(slots)
        for _ in range(len(waiting) + coming):
            heapq.heapreplace(slots, slots[0] + typical)
    return max(slots, default=0.0), complete


def typical_seconds(tasks: Iterable[TaskState]) -> float | None:
    """Mean seconds of a finished task; those that went on from a checkpoint or the store were quicker and left out."""
    finished = [
        (task.live_epochs, task.ended - task.started)
        for task in tasks
        if task.status == "done" and not task.cached and task.started is not None and task.ended is not None
    ]
    most = max((epochs for epochs, _ in finished), default=0)
    times = [seconds for epochs, seconds in finished if epochs == most]
    return sum(times) / len(times) if times else None


def _most_at_once(tasks: Sequence[TaskState], now: float) -> int:
    changes = []
    for task in tasks:
        if task.started is not None and not task.cached:
            end = task.ended if task.ended is not None else now
            changes += [(task.started, 1), (max(end, task.started), -1)]
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return max(1, most)
