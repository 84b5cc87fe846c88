"""Figures of an epoch: each the mean over the steps that had something to measure it by."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float64
from torch import Tensor

from aream.errors import DataError


class EpochMeans:
    """Means over the steps of an epoch. A step without a pair, or a labelled pixel, has no loss: counted as 0 it would
    make the mean look better."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Float64[Tensor, ""] | float, int]] = {}
        """Name -> sum, and the number of steps in it."""

    def add(self, figures: Mapping[str, Float64[Tensor, ""]]) -> None:
        """Add those of one step, which stay on their device; one that it has no evidence for is left out."""
        for name, value in figures.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1

    def plain(self) -> dict[str, tuple[float, int]]:
        """The sums as numbers, for a checkpoint."""
        return {name: (float(total), count) for name, (total, count) in self.sums.items()}

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.plain().items()}

    def refuse_nothing(self, name: str, place: str, why: str) -> None:
        """
        Raises:
            DataError: no step of the epoch has the figure that was learned from.
        """
        if name not in self.sums:
            raise DataError(f"{place}: {why}: nothing was learned")
