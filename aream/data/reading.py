"""Many files read at a time, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

READERS = 4
AT_ONCE = 1024
"""Images handed to the readers at a time: what they found of 120,000 need not wait in memory."""
Item = TypeVar("Item")
Read = TypeVar("Read")


def in_threads(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """``read`` of every item, in order."""
    remaining = iter(items)
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(remaining, AT_ONCE)):
            yield from pool.map(read, some)
