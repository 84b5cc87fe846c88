"""Show progress to people: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from orchestrator.console.fitted_table import FittedTable
from orchestrator.monitor.bars import bars, planned, progress_of
from orchestrator.monitor.forecast import Forecast, task_seconds, typical_seconds
from orchestrator.monitor.state import SweepState, is_over
from orchestrator.monitor.tasks import TaskState
from orchestrator.text import duration, short_titles
from workers.processes.masking import masked

log = logging.getLogger(__name__)

SHOWN_TASKS, FEWER = 20, (20, 15, 11, 8, 5, 3, 1)
"""Tasks in a table, and in one that has to fit on a terminal."""
DRAW_EVERY_S, DRAW_SHARE = 0.25, 0.02
"""Least seconds between two drawings of the terminal's table, and its largest share of the driver's time."""
KIND, WHAT = "kind", "what"
LEAST_WHAT = 20
"""Characters of a task's title in a table that is made to fit."""
STYLES = {"done": "green", "failed": "red", "running": "cyan", "stopped": "yellow", "waiting": "dim"}
"""Styles of the statuses known here; others are shown without style."""


class ProgressDisplay:
    """A context around the run; ``changed`` after every change of the state."""

    def __init__(
        self, state: SweepState, told: Sequence[str], log_file: Callable[[str], Path | None] = lambda key: None
    ) -> None:
        """
        Args:
            told: metrics that a line has where a task has them.
            log_file: where a task's log is, which is told with its failure.
        """
        self.state, self.told, self.log_file = state, told, log_file
        self.console = Console(file=sys.stdout, soft_wrap=True)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self._drawn = self._rest = 0.0
        self._behind = False

    def __enter__(self) -> ProgressDisplay:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.update(task_view(self.state))
            self.live.stop()

    def phase(self, text: str) -> None:
        self.state.phase = text
        self.state.save()
        self.line(text)

    def line(self, text: str) -> None:
        """One plain line; on a terminal it goes above the table."""
        text = masked(text)
        log.info("%s", text)
        self._show(text)

    def _show(self, text: str) -> None:
        if self.live:
            self.live.console.print(text, highlight=False, markup=False)
        else:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def changed(self, key: str) -> None:
        task = self.state.tasks[key]
        text = describe(task, self.told)
        if task.error and task.status in ("failed", "waiting") and (path := self.log_file(key)) is not None:
            text += f" (log: {path})"
            self._above(text)
        log.info("%s", text, extra={"trial" if task.kind == "trial" else "stage": key, "status": task.status})
        if self.live:
            self._behind = True
            self.catch_up()
        else:
            said = progress_of(self.state, task)
            self._show(f"{text}  [{said}]" if said else text)

    def _above(self, text: str) -> None:
        """Print a line above the table too, where it would only be a word in one of many rows."""
        if self.live:
            self._show(text)

    def catch_up(self) -> None:
        """Draw the table of a terminal anew if there is news and it is time; a large one takes its time."""
        began = time.monotonic()
        if self.live and self._behind and began - self._drawn >= self._rest:
            self.live.update(self.view())
            self._behind, self._drawn = False, time.monotonic()
            self._rest = max(DRAW_EVERY_S, (self._drawn - began) / DRAW_SHARE)

    def view(self) -> RenderableType:
        """As many tasks as fit below each other: of what is higher, a terminal shows no end."""
        for most in FEWER:
            view = task_view(self.state, most)
            if len(self.console.render_lines(view, pad=False)) < self.console.height:
                break
        return view


def describe(task: TaskState, metrics: Sequence[str]) -> str:
    epoch = f" epoch {task.epoch}/{task.epochs}" if task.epochs and task.epoch else ""
    shown = [f"{name} {task.metrics[name]:.3f}" for name in metrics if name in task.metrics]
    cached = " (stored)" if task.cached else ""
    error = f": {task.error}" if task.error else ""
    return f"{task.kind} {task.status}{cached}{epoch}  {task.title}  {', '.join(shown)}{error}".rstrip()


def task_view(state: SweepState, most: int = SHOWN_TASKS) -> RenderableType:
    """The bars of all kinds of tasks above the table of single ones."""
    return Group(bars(state), task_table(state, most)) if state.tasks else task_table(state, most)


def task_table(state: SweepState, most: int = SHOWN_TASKS) -> FittedTable:
    """Running and failed tasks first, the latest to end before others that ended; of many, the rest is counted."""
    order = {"running": 0, "failed": 1, "waiting": 3, "done": 4, "stopped": 5}
    tasks = sorted(state.tasks.values(), key=lambda task: (order.get(task.status, 2), -(task.ended or 0.0)))
    shown = tasks[:most]
    typical = {
        kind: typical_seconds(task for task in tasks if task.kind == kind)
        for kind in {task.kind for task in shown if task.status == "running"}
    }
    rows = [
        _row(state, task, title, typical.get(task.kind))
        for task, title in zip(shown, short_titles([task.title for task in shown]), strict=True)
    ]
    if len(tasks) > most:
        rows.append({WHAT: f"and {len(tasks) - most} more"})
    for kind, count in planned(state).items():
        rows.append({KIND: escape(kind), WHAT: f"up to {count} more, chosen later", "status": "[dim]planned[/]"})

    def made(left_out: Collection[str]) -> Table:
        table = Table(title=escape(f"{state.name}: {state.phase} ({headline(state)})"), title_justify="left")
        kept = [
            name for name in (KIND, WHAT, "status", "epoch", "time", "left", *state.columns) if name not in left_out
        ]
        for name in kept:
            table.add_column("" if name == KIND else escape(name), overflow="fold" if name == WHAT else "ellipsis")
        for row in rows:
            table.add_row(*(row.get(name, "") for name in kept))
        return table

    filled = {name: sum(bool(row.get(name)) for row in rows) for name in ("time", "left", *state.columns)}
    empty = [name for name, count in filled.items() if not count]
    by_filled = sorted(state.columns[1:], key=lambda name: filled[name])
    spare = dict.fromkeys([*empty, "time", "left", *state.columns[:1], *by_filled, "epoch", KIND])
    return FittedTable(made, list(spare), LEAST_WHAT, empty=empty)


def _row(state: SweepState, task: TaskState, title: str, typical: float | None) -> dict[str, str]:
    """Column -> cell of a task."""
    status = f"[{STYLES.get(task.status, 'magenta')}]{escape(task.status)}[/]{' (stored)' if task.cached else ''}"
    time_taken, time_left = _times(task, typical, state.clock())
    return {
        KIND: escape(task.kind),
        WHAT: escape(title),
        "status": status,
        "epoch": f"{task.epoch}/{task.epochs}" if task.epochs else "",
        "time": time_taken,
        "left": time_left,
        **{name: f"{task.metrics[name]:.4f}" for name in state.columns if name in task.metrics},
    }


def headline(state: SweepState) -> str:
    """Summarize in one line: tasks per status, how many of them came from the store, and the time left."""
    counts = [f"{number} {status}" for status, number in sorted(state.counts().items())]
    stored = sum(task.cached for task in state.tasks.values())
    left = "" if is_over(state.phase) else time_left(state.forecast())
    return ", ".join([*counts, *([f"{stored} from the store"] if stored else []), *([left] if left else [])])


def time_left(left: Forecast) -> str:
    """Empty where nothing is left to do."""
    if left.complete:
        return f"about {duration(left.seconds)} left" if left.seconds else ""
    return f"at least {duration(left.seconds)} left" if left.seconds >= 1 else "time left unknown"


def _times(task: TaskState, typical: float | None, now: float) -> tuple[str, str]:
    """A task's duration so far and its time left, as text."""
    if task.started is None or task.cached:
        return "", ""
    if task.status != "running":
        return duration(task.ended - task.started) if task.ended is not None else "", ""
    seconds, certain = task_seconds(task, typical, now)
    known = f"{'' if certain else '> '}{duration(seconds)}" if certain or seconds else "unknown"
    return duration(now - task.started), known
