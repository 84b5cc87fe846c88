"""Trials of a sweep whose trainings can take their batches together."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence

from aream.engine.ranks import part_of
from orchestrator.plan.planner import TrialPlan


def banks(trials: Sequence[TrialPlan], most: int) -> list[list[TrialPlan]]:
    """Groups of two to ``most`` trials that share a pass, as even as they can be; those that have no other are in
    none."""
    if most == 1:
        return []
    alike: dict[Hashable, list[TrialPlan]] = {}
    for trial in trials:
        if trial.train.shared_pass is not None:
            alike.setdefault(trial.train.shared_pass, []).append(trial)
    found = []
    for group in alike.values():
        count = -(-len(group) // most)
        parts = [group[part_of(len(group), number, count)] for number in range(count)]
        found += [part for part in parts if len(part) > 1]
    return found


def balanced(trials: Sequence[TrialPlan], most: int, places: int) -> int:
    """The largest bank, up to ``most``, by which no place has more trainings to do than it has without banks.

    Args:
        places: trainings, or banks of them, that run beside each other.
    """

    def longest(size: int) -> int:
        sizes = [len(group) for group in banks(trials, size)]
        ends = [0] * max(1, places)
        for count in sorted(sizes + [1] * (len(trials) - sum(sizes)), reverse=True):
            heapq.heapreplace(ends, ends[0] + count)
        return max(ends)

    alone = longest(1)
    return next(size for size in range(most, 0, -1) if longest(size) <= alone)
