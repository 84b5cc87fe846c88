"""How a training's state leaves its loop, and how the loop is asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aream.errors import Interrupted


@dataclass(frozen=True)
class Checkpoints:
    """How a training's state leaves the loop; ``save`` must be atomic."""

    save: Callable[[dict[str, Any]], None]
    every_s: float = 60.0
    """Seconds between checkpoints inside an epoch; every epoch but the last ends with one."""
    clock: Callable[[], float] = time.monotonic
    stop: Callable[[], bool] = lambda: False
    """Asked after every step; a training that should stop saves its state and raises ``Interrupted``."""

    def leave_if_asked(self, state: Callable[[], dict[str, Any]]) -> None:
        """Raises ``Interrupted`` where ``stop`` says so, its state saved."""
        if self.stop():
            self.save(state())
            raise Interrupted("stopped as asked; its checkpoint is kept")
