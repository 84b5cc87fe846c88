"""Which configurations seed noise does not tell from the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.results.effects import Entry, complete, half_width
from orchestrator.spec.settings import Goal


@dataclass(frozen=True)
class Ties:
    seeds: int
    least: float | None
    """Least difference between two configurations' means that is told from noise; None with one seed."""
    positions: tuple[int, ...]
    """Positions, from 0, of the best and of those it is not told from; with one seed none is told from any."""


def ties(entries: Sequence[Entry], rank: Goal) -> Ties:
    """Compare every ranked entry (best first) with the first, paired by seed.

    The noise is the residual of a two-way layout, configurations by seeds, which pools what every configuration says
    about it; the comparisons hold together (Bonferroni). An entry that lacks a seed is told from none.
    """
    kept, seeds = complete(entries, rank)
    everything = tuple(range(len(entries)))
    if len(kept) < 2 or len(seeds) < 2 or entries[0] is not kept[0]:
        return Ties(len(seeds), None, everything)
    values = np.array([[entry["per_seed"][seed][rank.metric] for seed in seeds] for entry in kept])
    residual = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    freedom = (len(kept) - 1) * (len(seeds) - 1)
    spread = float(np.sqrt(2 * (residual**2).sum() / freedom))
    least = half_width(spread, len(seeds), len(kept) - 1, freedom)
    assert least is not None
    best, whole = rank.merit(entries[0]["metrics"]), {id(entry) for entry in kept}
    tied = [
        position
        for position in everything
        if id(entries[position]) not in whole or best - rank.merit(entries[position]["metrics"]) <= least
    ]
    return Ties(len(seeds), least, tuple(tied))
