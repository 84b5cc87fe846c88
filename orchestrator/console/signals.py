"""Signals that end a command: Ctrl-C, SIGTERM and a closed terminal.

The first raises ``KeyboardInterrupt``, so that what the command leaves is saved; a further one does so again, and cuts
short what is waited for, but not the saving. Once the exit status is known, one ends the process with it at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Response:
    """How this process acts on a signal now."""

    held: bool = False
    """True while something is saved: a signal waits until ``let_go``. To be set by an assignment alone, in front of any
    call: only at a call does Python act on a signal."""
    met: bool = False
    """True if one waits."""
    status: int | None = None
    """Exit status once nothing is left to be done."""


NOW = Response()


def end_on_signals() -> None:
    """Make them raise ``KeyboardInterrupt``. What the caller had ignored (``nohup``) stays ignored, and what a program
    does at Ctrl-C is its own. Ray sets handlers of its own: to be called after it started."""
    for number in ENDING:
        known = signal.getsignal(number)
        its_own = number == signal.SIGINT and known is not signal.default_int_handler
        if known is not signal.SIG_IGN and not its_own:
            signal.signal(number, _act)


def let_go() -> None:
    """Act on signals again, and on one that waits.

    Raises:
        KeyboardInterrupt: one waited.
    """
    met, NOW.met, NOW.held = NOW.met, False, False
    if met:
        raise KeyboardInterrupt


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """For as long as the body takes; not in a thread, which gets none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    end_on_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _act(number: int, frame: object) -> None:
    if NOW.status is not None:
        os._exit(NOW.status)
    if NOW.held:
        NOW.met = True
        return
    raise KeyboardInterrupt
