"""Results that no other result beats in everything: the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
