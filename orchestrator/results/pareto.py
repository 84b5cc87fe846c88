"""Results that no other result beats in everything: the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.results.ties import ties
from orchestrator.spec.metrics import GPU_SECONDS, SECONDS
from orchestrator.spec.settings import Goal, goal
from orchestrator.spec.spec import SweepSpec


def objectives(spec: SweepSpec) -> list[Goal]:
    """Objectives of the search if it has several, else the rank metric and the cost of a result."""
    if spec.search and len(spec.search.objectives) > 1:
        return list(spec.objectives)
    cost = GPU_SECONDS if spec.resources.trial.gpus else SECONDS
    return [spec.ranked_by, goal(cost)]


def front(results: Sequence[Mapping[str, Any]], objectives: Sequence[Goal]) -> list[int]:
    """Positions of the results that none is as good as in every objective and better in one.

    Equal results are on the front together; a result without one of the metrics is not compared.
    """
    compared = [
        position
        for position, metrics in enumerate(results)
        if all(objective.metric in metrics for objective in objectives)
    ]
    merits = np.array([[objective.merit(results[position]) for objective in objectives] for position in compared])
    left = np.arange(len(compared))  # shrinks fast, so that tens of thousands of results take no minutes
    looked_at = 0
    while looked_at < len(left):
        own, others = merits[left[looked_at]], merits[left]
        stays = ~((own >= others).all(axis=1) & (own > others).any(axis=1))
        looked_at = int(stays[:looked_at].sum()) + 1
        left = left[stays]
    return [compared[index] for index in left]


def told_front(entries: Sequence[Mapping[str, Any]], objectives: Sequence[Goal], *, asked: bool) -> list[int]:
    """Positions on the front, of which seed noise alone puts none there.

    A result leaves it where another is as good within noise in everything and better beyond noise in something; of
    results that noise does not tell apart in anything, the first stands for all.

    Args:
        asked: whether a search looked for it: then one seed, which says nothing about noise, gives a front too.
    """
    positions = front([entry["metrics"] for entry in entries], objectives)
    noise = [_noise(entries, objective) for objective in objectives]
    least = np.array([np.nan if each is None else each for each in noise])
    if np.isnan(least).any():
        return positions if asked else []
    merits = {
        position: np.array([objective.merit(entries[position]["metrics"]) for objective in objectives])
        for position in positions
    }
    left = sorted(positions, key=lambda position: float(merits[position][0]))
    for position in tuple(left):
        ahead = [merits[other] - merits[position] for other in left if other != position]
        if any((gap >= -least).all() and (gap > least).any() for gap in ahead):
            left.remove(position)
    told = any((np.abs(merits[one] - merits[other]) > least).any() for one in left for other in left)
    return sorted(left) if told else sorted(left)[:1]


def _noise(entries: Sequence[Mapping[str, Any]], objective: Goal) -> float | None:
    """Least difference in an objective that is told from seed noise."""
    scored = [entry for entry in entries if objective.metric in entry["metrics"]]
    return ties(sorted(scored, key=lambda entry: -objective.merit(entry["metrics"])), objective).least
