"""End or pause a running sweep: by orders from another terminal, budgets or failures."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from aream.errors import DamagedFile
from orchestrator.monitor.control_file import ControlFile
from orchestrator.spec.settings import Limits
from workers.processes.atomic_write import StateFile, write_json

log = logging.getLogger(__name__)

TICK_S = 1.0
SAVE_S = 30.0
HOUR_S = 3600.0


class Supervisor:
    """Decides about ending and pausing; the driver's loops call ``tick`` about every second."""

    def __init__(
        self, control_file: Path, spent_file: Path, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.control_file, self.spent_file, self.limits, self.clock = control_file, spent_file, limits, clock
        self.orders = ControlFile.read(control_file)
        if self.orders.sweep != "run":  # running the command is the order to run it
            self.orders.sweep = "run"
            self.orders.write(control_file)
        self.gpu_seconds = spent_before(spent_file)
        self.started = self.ticked = self.saved = clock()
        self.failed = 0
        self.unreadable: str | None = None
        """Error that currently prevents the orders from being read; None: they are readable."""
        self.ending: str | None = None
        """Reason to start nothing new and to stop running tasks; None: the sweep goes on."""
        self.away: str | None = None
        """A worker's message about a store that did not answer within its time limit."""
        self.each_tick: Callable[[], None] = lambda: None

    @property
    def paused(self) -> bool:
        return self.orders.sweep == "pause"

    def is_over(self) -> bool:
        return self.ending is not None

    def end(self, reason: str) -> None:
        """Begin nothing new, stop what runs; the first reason is the one that counts."""
        self.ending = self.ending or reason

    def store_away(self, reason: str) -> None:
        """A worker gave its work back because of a store or disk: the next one would fare no better."""
        self.away = self.away or reason
        self.end(reason)

    def tick(self, running: Mapping[str, float]) -> bool:
        """Look at orders and budgets.

        Args:
            running: key -> share of GPUs of what runs now.

        Returns:
            Whether it was time to look: at most once in ``TICK_S``.
        """
        now = self.clock()
        passed = now - self.ticked
        if passed < TICK_S:
            return False
        self.ticked = now
        self.gpu_seconds += passed * sum(running.values())
        if now - self.saved >= SAVE_S:
            self.save()
        try:
            self.orders = ControlFile.read(self.control_file)
            self.unreadable = None
        except DamagedFile as error:  # those read before stand
            if self.unreadable != str(error):  # once, not every second
                log.warning("%s", error)
            self.unreadable = str(error)
        self.ending = self.ending or self.budget_spent() or self._reason(now)
        self.each_tick()
        return True

    def desired_state(self, key: str) -> str:
        """``run``, ``pause`` or ``stop`` for one trial or stage."""
        if self.ending is not None or self.paused:
            return "pause"
        return self.orders.trials.get(key, "run")

    def count_failure(self) -> None:
        self.failed += 1
        if self.limits.failures is not None and self.failed >= self.limits.failures:
            self.end(f"limits.failures: {self.failed} failed")

    def save(self) -> None:
        self.saved = self.clock()
        write_json(self.spent_file, {"gpu_seconds": round(self.gpu_seconds, 1)})

    def _reason(self, now: float) -> str | None:
        limits = self.limits
        if self.orders.sweep == "stop":
            return "stopped from another terminal"
        if limits.wall_hours is not None and now - self.started >= limits.wall_hours * HOUR_S:
            return f"limits.wall_hours: {limits.wall_hours:g} h have passed"
        return None

    def budget_spent(self) -> str | None:
        """Message if the GPU hours of all runs together are spent, which they may be before a run begins; else None."""
        limit = self.limits.gpu_hours
        if limit is None or self.gpu_seconds < limit * HOUR_S:
            return None
        return f"limits.gpu_hours: {limit:g} GPU hours are spent, earlier runs counted; raise it"


def spent_before(file: Path) -> float:
    """GPU seconds of earlier runs.

    Raises:
        DamagedFile: they cannot be told; a budget that is spent must not begin again at zero unasked.
    """

    def parse(content: bytes) -> float:
        seconds = json.loads(content)["gpu_seconds"]
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise ValueError(f"gpu_seconds: need a number >= 0, got {seconds!r}")
        return float(seconds)

    holds = "the GPU seconds that earlier runs of this sweep used, which limits.gpu_hours counts"
    go_on = 'write {"gpu_seconds": NUMBER} into it (the report tells what results cost) or delete it to count from zero'
    return StateFile(file, holds, go_on, parse).read() or 0.0
