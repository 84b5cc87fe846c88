"""Seeds at which configurations are compared: a failed or unfinished training leaves some without one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]
"""A ranked configuration of the summary."""
Seeds = frozenset[str]


def seeds_of(entry: Entry, metric: str) -> Seeds:
    """Seeds at which it has a number for the metric."""
    return frozenset(seed for seed, own in entry["per_seed"].items() if metric in own)


def every_seed(entries: Iterable[Entry], metric: str) -> Seeds:
    """Seeds at which any has a number for the metric."""
    return Seeds().union(*(seeds_of(entry, metric) for entry in entries))


def lacking(entries: Sequence[Entry], metric: str) -> dict[int, list[str]]:
    """Position of each entry that lacks a seed which another has -> those seeds."""
    every = every_seed(entries, metric)
    found = {at: sorted(every - seeds_of(entry, metric), key=int) for at, entry in enumerate(entries)}
    return {at: seeds for at, seeds in found.items() if seeds}


def most_compared(candidates: Iterable[Seeds], compared: Callable[[Seeds], int], least: int) -> Seeds | None:
    """Of sets of seeds the one at which most results are compared; the one with more seeds where that is equal.

    Args:
        compared: how many configurations have all the seeds of a set; 0 where there is nothing to compare.
        least: seeds that a set has at least.

    Returns:
        None where no set has something to compare.
    """
    sizes = {seeds: compared(seeds) for seeds in set(candidates) if len(seeds) >= least}
    told = [seeds for seeds, size in sizes.items() if size]
    return max(told, key=lambda seeds: (sizes[seeds] * len(seeds), len(seeds), sorted(seeds)), default=None)
