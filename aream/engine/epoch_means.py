"""Figures of an epoch: each the mean over the steps that had something to measure it by."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from jaxtyping import Float64, Int64
from torch import Tensor

from aream.errors import DataError

log = logging.getLogger(__name__)


class EpochMeans:
    """Means over the steps of an epoch. A step without a pair, or a labelled pixel, has no loss: counted as 0 it would
    make the mean look better."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[Float64[Tensor, ""] | float, Int64[Tensor, ""] | int]] = {}
        """Name -> sum, and the number of steps in it."""

    def add(self, figures: Mapping[str, Float64[Tensor, ""]]) -> None:
        """Add those of one step, which stay on their device; one that it has no evidence for is left out, or NaN."""
        for name, value in figures.items():
            total, count = self.sums.get(name, (0.0, 0))
            there = ~value.isnan()
            self.sums[name] = total + value.where(there, 0), count + there

    def plain(self) -> dict[str, tuple[float, int]]:
        """The sums as numbers, for a checkpoint."""
        return {name: (float(total), int(count)) for name, (total, count) in self.sums.items()}

    def means(self, place: str) -> dict[str, float]:
        """Those that a step of the epoch has evidence for; of the others the log tells, by the ``place``."""
        sums = self.plain()
        if lacking := [name for name, (_, count) in sums.items() if not count]:
            log.warning("%s: no step had anything to make %s from: it taught nothing", place, ", ".join(lacking))
        return {name: total / count for name, (total, count) in sums.items() if count}

    def refuse_nothing(self, name: str, place: str, why: str) -> None:
        """
        Raises:
            DataError: no step of the epoch has the figure that was learned from.
        """
        if name not in self.sums:
            raise DataError(f"{place}: {why}: nothing was learned")
