"""Something else happens in the middle of a process's system calls: an error, another actor, or its end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

CALLS = ("scandir", "listdir", "stat", "replace", "rename", "link", "unlink", "utime", "mkdir", "rmdir", "open")


class Killed(BaseException):
    """What follows in its process does not happen."""


@dataclass(frozen=True)
class Moment:
    """Before the system call of that number among those of these names; 0: never."""

    number: int
    of: tuple[str, ...] = CALLS


@contextlib.contextmanager
def interrupted_at(moment: Moment, what: Callable[[], None]) -> Iterator[None]:
    """At a moment ``what`` happens; after a kill no further call does anything. Other threads' calls count for nothing:
    a lease beats when it will."""
    own = threading.get_ident()
    real, count, inside, dead = {name: getattr(os, name) for name in CALLS}, 0, False, False

    def replaced_by(name: str) -> Callable:
        def call(*args, **options):
            nonlocal count, inside, dead
            if threading.get_ident() != own:
                return real[name](*args, **options)
            if dead:
                raise Killed
            if not inside and name in moment.of:
                count += 1
                if count == moment.number:
                    inside = True
                    try:
                        what()
                    except Killed:
                        dead = True
                        raise
                    finally:
                        inside = False
            return real[name](*args, **options)

        return call

    for name in CALLS:
        setattr(os, name, replaced_by(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
