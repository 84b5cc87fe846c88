"""Leaving a sweep that ends before its time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.console import signals
from orchestrator.monitor.state import is_over
from orchestrator.tracking.run_names import SWEEP

if TYPE_CHECKING:
    from orchestrator.run.driver import Driver

CLOSE_S = 10.0
"""Longest that the tracker's server is waited for."""


def abandon(driver: Driver, phase: str, status: str) -> None:
    """Save a state that tells how it ended, and what the tracker has not sent in its spool; then wait for what is being
    sent, until a further signal comes. To be called while signals are held; one that had ended stays as it is."""
    try:
        driver.recorder.drop()
        _save(driver, phase, status)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            signals.let_go()
            _each(
                lambda: driver.tracker.close(CLOSE_S),
                lambda: driver.metrics.sample(last=True),
                driver.webhook.close,
            )


def _save(driver: Driver, phase: str, status: str) -> None:
    state = driver.state
    if is_over(state.phase):
        return
    state.phase = phase
    for task in state.tasks.values():
        if task.status == "running":
            task.status = "waiting"
    _each(
        state.save,
        driver.supervisor.save,
        lambda: driver.webhook.tell("stopped", phase, state.counts()),
        lambda: driver.tracker.end_run(SWEEP, status),
    )


def _each(*steps: Callable[[], object]) -> None:
    """On a full disk one step fails, and the others are done nevertheless."""
    for step in steps:
        with contextlib.suppress(OSError):
            step()
