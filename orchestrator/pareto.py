"""Results that no other result beats in everything: the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.settings import Objective
from orchestrator.spec import SweepSpec


def objectives(spec: SweepSpec) -> list[Objective]:
    """Those of the search where it has several, else the rank metric against what a result cost."""
    if spec.search and len(spec.search.objectives) > 1:
        return list(spec.search.objectives)
    cost = "cost/gpu_seconds" if spec.resources.trial.gpus else "cost/seconds"
    return [Objective(metric=spec.rank.metric, mode=spec.rank.mode), Objective(metric=cost, mode="min")]


def front(results: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> list[int]:
    """Positions of the results that none is as good as in every objective and better in one.

    Equal results are on the front together; a result without one of the metrics is not compared.
    """
    compared = [
        position
        for position, metrics in enumerate(results)
        if all(objective.metric in metrics for objective in objectives)
    ]
    signs = {objective.metric: -1 if objective.mode == "max" else 1 for objective in objectives}
    losses = np.array([[sign * results[position][name] for name, sign in signs.items()] for position in compared])
    left = np.arange(len(compared))  # shrinks fast, so that tens of thousands of results take no minutes
    looked_at = 0
    while looked_at < len(left):
        own, others = losses[left[looked_at]], losses[left]
        stays = ~((own <= others).all(axis=1) & (own < others).any(axis=1))
        looked_at = int(stays[:looked_at].sum()) + 1
        left = left[stays]
    return [compared[index] for index in left]
