"""Ports for servers that tests start, and one on which there is none."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

# Not from the generator that trainings and tests seed: processes beside this one would find the same ports.
_LEFT = random.SystemRandom().sample(range(20_000, 32_000), 12_000)


def free_port() -> int:
    """On loopback, below those that the system hands out and above Ray's: it stays free until the server is up. Given
    out once: servers that are started one after the other ask for theirs before any of them listens."""
    while True:
        port = _LEFT.pop()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """One that refuses connections, and that nobody else can listen on meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
