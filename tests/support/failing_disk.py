"""A disk of which one call of many does not come through."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path

CALLS = ((io, "open"), (builtins, "open"), (os, "stat"), (os, "lstat"), (os, "listdir"), (os, "scandir"))


@contextlib.contextmanager
def failing_at(number: int, below: Path, error: int = errno.EIO) -> Iterator[list[str]]:
    """Of the calls that look at something below a folder the one of this number, from 1 on, fails; gives its path,
    nothing where there are not so many."""
    count, failed = 0, list[str]()
    real = {(module, name): getattr(module, name) for module, name in CALLS}

    def replaced_by(call):
        def replacement(path=".", *args, **options):
            nonlocal count
            if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(str(below)):
                count += 1
                if count == number:
                    failed.append(os.fspath(path))
                    raise OSError(error, os.strerror(error), os.fspath(path))
            return call(path, *args, **options)

        return replacement

    for (module, name), call in real.items():
        setattr(module, name, replaced_by(call))
    try:
        yield failed
    finally:
        for (module, name), call in real.items():
            setattr(module, name, call)
