"""Processes that train one model together, each on its part of every batch, as a training sees them.

The parts' losses and gradients *add up* to those of the whole batch: whatever a loss divides by is counted over all
ranks first. So a training on several ranks takes the same steps as one on a single rank, but for the rounding of sums.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Ranks(Protocol):
    """Every rank makes the same calls in the same order, or raises inside ``together``."""

    @property
    def rank(self) -> int:
        """Number of this rank, from 0; the first one reports and writes."""

    @property
    def size(self) -> int: ...

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, the same bits on all of them."""

    def collect(self, value: Tensor) -> list[Tensor]:
        """Return the value of every rank, on the CPU."""

    def agree(self, wish: bool) -> bool:
        """Return True if any rank wishes it."""

    def together(self) -> contextlib.AbstractContextManager[None]:
        """A body that all ranks leave in one way: what one of them raises is raised on all."""


class _Alone:
    rank, size = 0, 1

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Nothing is to be added."""

    def collect(self, value: Tensor) -> list[Tensor]:
        return [value.cpu()]

    def agree(self, wish: bool) -> bool:
        return wish

    def together(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


ALONE: Ranks = _Alone()


def part_of(count: int, rank: int, size: int) -> slice:
    """The items of a rank: parts follow each other and differ by one item at most."""
    return slice(count * rank // size, count * (rank + 1) // size)
