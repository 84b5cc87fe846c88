"""Threads beside the work: what goes wrong in one is told, and does not end it without a word."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def begin(name: str, work: Callable[[], None]) -> threading.Thread:
    """A thread that does not keep its process alive; an error that ends it is logged."""

    def told() -> None:
        try:
            work()
        except Exception:
            log.exception("the thread %r ended by an error", name)

    thread = threading.Thread(target=told, name=name, daemon=True)
    thread.start()
    return thread


def begin_repeating(name: str, done: threading.Event, every_s: float, look: Callable[[], None]) -> threading.Thread:
    """A thread that calls ``look`` every so many seconds until ``done``; an error is logged, and it looks again."""

    def repeat() -> None:
        while not done.wait(every_s):
            try:
                look()
            except Exception as error:
                log.warning("%s: %s: %s; it is tried again", name, type(error).__name__, error)

    return begin(name, repeat)
