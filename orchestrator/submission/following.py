"""Following a job on a cluster that may not answer for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from aream.errors import ConfigError

ASK_AGAIN_S = 2.0
LOST_S = 600.0
"""Seconds without any answer after which following ends."""
T = TypeVar("T")


def answers(ask: Callable[[], T], silent: type[ConfigError] = ConfigError) -> Iterator[T]:
    """Yield the answers of ``ask`` about a job, again and again.

    Args:
        silent: raised by ``ask`` where nobody answers now.

    Raises:
        ConfigError: the first question failed, or every one for ``LOST_S`` seconds.
    """
    yield ask()
    heard = time.monotonic()  # what is done with an answer may take hours
    while True:
        time.sleep(ASK_AGAIN_S)
        try:
            answer = ask()
        except silent:
            if time.monotonic() - heard > LOST_S:
                raise
        else:
            yield answer
            heard = time.monotonic()
