"""A bar for each kind of a sweep's tasks: how many of how many, and when they end."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.monitor.forecast import Forecast
from orchestrator.monitor.state import SweepState, is_over
from orchestrator.monitor.tasks import ENDED, ORDER, TaskState
from orchestrator.text import many

WIDTH = 30


def tally(state: SweepState, kind: str) -> tuple[int, int]:
    """How many tasks of a kind have ended, and how many there are or will be at most."""
    known = [task for task in state.tasks.values() if task.kind == kind]
    return sum(task.status in ENDED for task in known), max(len(known), _expected(state, kind))


def planned(state: SweepState) -> dict[str, int]:
    """Kind -> tasks that come up only later: at most so many."""
    counts = {kind: _expected(state, kind) - _known(state, kind) for kind in state.expected}
    return {kind: count for kind, count in counts.items() if count > 0}


def ends_at(left: Forecast, now: float) -> str:
    """The hour at which all is done, with its day if that is not today; empty where nobody knows."""
    if not left.complete or not left.seconds:
        return ""
    end = now + left.seconds
    today = time.localtime(now)[:3] == time.localtime(end)[:3]
    return f"ends about {time.strftime('%H:%M' if today else '%a %d %b %H:%M', time.localtime(end))}"


def progress_of(state: SweepState, task: TaskState) -> str:
    """``3 of 9 trials, ends about 14:05`` once a task has ended; empty before."""
    if task.status not in ENDED:
        return ""
    done, every = tally(state, task.kind)
    end = ends_at(state.forecast(), state.clock())
    return ", ".join(part for part in (f"{done} of {many(every, _words(task.kind))}", end) if part)


def bars(state: SweepState) -> RenderableType:
    """All kinds below each other, in the order in which they run."""
    grid = Table.grid(padding=(0, 2))
    for kind in _kinds(state):
        done, every = tally(state, kind)
        grid.add_row(
            Text(f"{_words(kind)}s"), ProgressBar(total=every, completed=done, width=WIDTH), Text(f"{done} of {every}")
        )
    end = "" if is_over(state.phase) else ends_at(state.forecast(), state.clock())
    return Group(grid, Text(end)) if end else grid


def _kinds(state: SweepState) -> Sequence[str]:
    there = {*state.expected, *(task.kind for task in state.tasks.values())}
    return [kind for kind in ORDER if kind in there and tally(state, kind)[1]]


def _known(state: SweepState, kind: str) -> int:
    return sum(task.kind == kind for task in state.tasks.values())


def _expected(state: SweepState, kind: str) -> int:
    return 0 if is_over(state.phase) else state.expected.get(kind, 0)


def _words(kind: str) -> str:
    return "segmentation job" if kind == "segmentation" else kind
