"""Which configurations seed noise does not tell from the best one."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from orchestrator.results.effects import LEVEL
from orchestrator.results.shared_seeds import Entry, every_seed, most_compared, seeds_of
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

    The first was picked for being the best, so a difference counts where it is beyond the range of so many
    configurations by chance (Tukey's studentized range). The noise is that of differences between configurations of two
    trainings, pooled over all of them; labels made of one training say little new about it, so it has (trainings - 1)
    (seeds - 1) degrees of freedom. Where entries lack seeds, those that most have in common with the first are
    compared; an entry that lacks one of these is told from none.
    """
    every, everything = len(every_seed(entries, rank.metric)), tuple(range(len(entries)))
    own = [seeds_of(entry, rank.metric) for entry in entries]
    seeds = most_compared({own[0] & each for each in own}, lambda s: sum(s <= o for o in own), 2) if own else None
    kept = [place for place in everything if seeds is not None and seeds <= own[place]]
    if len(kept) < 2 or seeds is None:
        return Ties(every, None, everything)
    order = sorted(seeds, key=int)
    values = np.array([[entries[place]["per_seed"][seed][rank.metric] for seed in order] for place in kept])
    trained = np.unique([_training(entries[place], order[0]) for place in kept], return_inverse=True)[1]
    count = int(trained.max()) + 1
    reach = _studentized_range(len(kept), max(count - 1, 1) * (len(seeds) - 1)) / math.sqrt(2)
    least = reach * _spread(values, trained) / math.sqrt(len(seeds))
    merits = (1 if rank.mode == "max" else -1) * values.mean(1)
    behind = {place for place, merit in zip(kept, merits, strict=True) if merits[0] - merit > least}
    return Ties(every, least, tuple(place for place in everything if place not in behind))


def _training(entry: Entry, seed: str) -> str:
    """Key of its training at a seed."""
    return dict(zip(map(str, entry["seeds"]), entry["trial_keys"], strict=True))[seed]


def _spread(values: Float64[np.ndarray, "entries seeds"], trained: np.ndarray) -> float:
    """Standard deviation between seeds of the difference of two trainings' entries, over all such pairs; of any two
    entries where there is one training."""
    centred = values - values.mean(0)
    residual = centred - centred.mean(1, keepdims=True)
    if trained.max() == 0:
        trained = np.arange(len(values))
    sizes = np.bincount(trained)
    sums = np.stack([np.bincount(trained, column) for column in residual.T], axis=1)
    # Of all pairs the squared differences add up to N sum(x^2) - sum(x)^2; those within a training are taken out.
    squares = np.bincount(trained, (residual**2).sum(1))
    total = len(values) * squares.sum() - (sizes * squares - (sums**2).sum(1)).sum()
    pairs = (len(values) ** 2 - (sizes**2).sum()) / 2
    return math.sqrt(max(float(total), 0.0) / pairs / (values.shape[1] - 1))


@functools.cache
def _studentized_range(configurations: int, freedom: int) -> float:
    from scipy.stats import studentized_range  # takes a second, and only an answer of several seeds needs it

    return float(studentized_range.ppf(LEVEL, configurations, freedom))
