"""Checkpoints of a training: how its state leaves the loop, and how the loop is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aream.errors import Interrupted

State = Callable[[], dict[str, Any]]
SHARE = 0.01
"""Share of a training's time that checkpoints at the ends of short epochs may take."""


class Checkpoints:
    """Times at which a training's state is saved; a row of an epoch may be reported again after a restart from an older
    one."""

    def __init__(
        self,
        save: Callable[[dict[str, Any]], None],
        every_s: float = 60.0,
        *,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            save: must be atomic.
            every_s: seconds of work that are lost at most.
            stop: asked after every step; a training that should stop saves its state and raises ``Interrupted``.
        """
        self.save, self.every_s, self.stop, self.clock = save, every_s, stop, clock
        self.saved, self.took = clock(), 0.0

    def after_step(self, state: State) -> None:
        """Raises ``Interrupted`` where ``stop`` says so, its state saved."""
        if self.clock() - self.saved >= self.every_s:
            self._save(state)
        self.leave_if_asked(state)

    def after_epoch(self, state: State) -> None:
        """The first epoch's end is always kept, later ones where that takes no more than ``SHARE`` of the time."""
        if self.clock() - self.saved >= min(self.every_s, self.took / SHARE):
            self._save(state)

    def after_last_epoch(self, state: State) -> None:
        """Save the state, always: where the result cannot be stored, it is made of this state again, without
        training."""
        self._save(state)

    def leave_if_asked(self, state: State) -> None:
        """Raises ``Interrupted`` where ``stop`` says so, its state saved."""
        if self.stop():
            self.save(state())
            raise Interrupted("stopped as asked; its checkpoint is kept")

    def _save(self, state: State) -> None:
        began = self.clock()
        self.save(state())
        self.saved = self.clock()
        self.took = self.saved - began


Report = Callable[[dict[str, float]], None]
