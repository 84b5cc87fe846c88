"""Work that the driver's loop must not wait for, done by one thread in the order it was given."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from aream.errors import StoreUnavailable
from workers.processes.background import begin

log = logging.getLogger(__name__)


class BackgroundQueue:
    """Runs work in a background thread, in order; failures are logged and left to the next run."""

    def __init__(self, name: str) -> None:
        self.waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.dropped = threading.Event()
        self.thread = begin(name, self._work)

    def do(self, work: Callable[[], None]) -> None:
        self.waiting.put(work)

    def finish(self) -> None:
        """Wait until all is done that was given so far; nothing may be given afterwards."""
        self.waiting.put(None)
        self.thread.join()

    def drop(self) -> None:
        """Begin nothing more."""
        self.dropped.set()

    def _work(self) -> None:
        while (work := self.waiting.get()) is not None:
            if self.dropped.is_set():
                continue
            try:
                work()
            except Exception as error:
                if isinstance(error, StoreUnavailable):  # what is behind it would wait as long, each
                    self.drop()
                log.warning("left to the next run: %s: %s", type(error).__name__, error)
