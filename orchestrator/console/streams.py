"""Standard output and error that may go away (``| head``, a closed terminal, a full disk) without ending the work."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from workers.processes.masking import masked

log = logging.getLogger(__name__)

_lost: set[str] = set()


def output_is_lost() -> bool:
    """True if standard output was closed by its reader; commands that print until they are ended should ask."""
    return "standard output" in _lost


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Discard what the body prints to a closed output or error stream, instead of failing."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:  # a file opened later would take the place of a closed stream
        pass
    os.close(spare)
    _lost.clear()
    before = sys.stdout, sys.stderr
    # What is printed for people may quote an error; what goes to standard output is made to be read as it is.
    sys.stdout = _lasting(sys.stdout, "standard output", secret_free=False)
    sys.stderr = _lasting(sys.stderr, "standard error", secret_free=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None, name: str, *, secret_free: bool) -> TextIO:
    if stream is None:  # closed before this process began
        _lost.add(name)
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a terminal without the sign gets its number
    return cast(TextIO, _Lasting(stream, name, secret_free))


class _Lasting:
    """A text stream that outlives its reader: what cannot be written any more is left out, and the log says so."""

    def __init__(self, stream: TextIO, name: str, secret_free: bool) -> None:
        self._stream, self._name, self._secret_free = stream, name, secret_free

    def write(self, text: str) -> int:
        try:
            return self._stream.write(masked(text) if self._secret_free else text)
        except (OSError, ValueError) as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if self._name in _lost:
            return
        _lost.add(self._name)
        try:  # what is left in the buffer, and what libraries write themselves, goes into nothing too
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            pass
        log.info("nobody reads %s any more (%s): the log goes on", self._name, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
