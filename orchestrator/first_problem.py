"""What goes wrong in the driver while Ray Tune tells it of a trial, raised where Tune lets it through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class FirstProblem:
    """The first of them. Raised at once, Tune would take it for a failure of the trial and run that once more."""

    def __init__(self) -> None:
        self.first: Exception | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.first = self.first or error

    def show(self) -> None:
        """Raises the problem, if there is one."""
        if self.first is not None:
            raise self.first
