"""Progress for people: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.state import SweepState, TaskState

SHOWN_TASKS = 20
STYLES = {"done": "green", "failed": "red", "running": "cyan", "stopped": "yellow", "waiting": "dim"}


class Progress:
    """A context around the run; ``changed`` after every change of the state."""

    def __init__(self, state: SweepState, metric: str) -> None:
        self.state, self.metric = state, metric
        self.console = Console(file=sys.stdout, soft_wrap=True)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.update(self.table())
            self.live.stop()

    def phase(self, text: str) -> None:
        self.state.phase = text
        self.state.save()
        self.line(text)

    def line(self, text: str) -> None:
        """One plain line; on a terminal it goes above the table."""
        if self.live:
            self.live.console.print(text, highlight=False)
        else:
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def changed(self, key: str) -> None:
        if self.live:
            self.live.update(self.table())
        else:
            self.line(describe(self.state.tasks[key], self.metric))

    def table(self) -> Table:
        return task_table(self.state, self.metric)


def describe(task: TaskState, metric: str) -> str:
    epoch = f" epoch {task.epoch}/{task.epochs}" if task.epochs and task.epoch else ""
    shown = [f"{name} {task.metrics[name]:.3f}" for name in ("val/map", metric, "seg/miou") if name in task.metrics]
    cached = " (stored)" if task.cached else ""
    error = f": {task.error}" if task.error else ""
    return f"{task.kind} {task.status}{cached}{epoch}  {task.title}  {', '.join(shown)}{error}".rstrip()


def task_table(state: SweepState, metric: str) -> Table:
    """Running and failed tasks first; finished ones are only counted where there are many."""
    counts = ", ".join(f"{number} {status}" for status, number in sorted(state.counts().items()))
    eta = state.eta_s()
    left = f", about {duration(eta)} left" if eta else ""
    table = Table(title=f"{state.name}: {state.phase} ({counts}{left})", title_justify="left")
    for column in ("", "what", "status", "epoch", "val/map", metric):
        table.add_column(column, overflow="fold")
    order = {"running": 0, "failed": 1, "waiting": 2, "done": 3, "stopped": 4}
    tasks = sorted(state.tasks.values(), key=lambda task: order.get(task.status, 9))
    for task in tasks[:SHOWN_TASKS]:
        numbers = [f"{task.metrics[name]:.4f}" if name in task.metrics else "" for name in ("val/map", metric)]
        status = f"[{STYLES[task.status]}]{task.status}[/]{' (stored)' if task.cached else ''}"
        epochs = f"{task.epoch}/{task.epochs}" if task.epochs else ""
        table.add_row(task.kind, task.title, status, epochs, *numbers)
    if len(tasks) > SHOWN_TASKS:
        table.add_row("", f"and {len(tasks) - SHOWN_TASKS} more", "", "", "", "")
    return table


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
