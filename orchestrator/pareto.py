"""Results that no other result beats in everything: the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.spec import SweepSpec


@dataclass(frozen=True)
class Objective:
    """A metric and which way is better."""

    metric: str
    mode: str
    """max or min."""

    @property
    def sign(self) -> int:
        """What makes smaller better."""
        return -1 if self.mode == "max" else 1


def objectives(spec: SweepSpec) -> list[Objective]:
    """Those of the search where it names some, else the rank metric against what a result cost."""
    searched = getattr(spec.search, "objectives", None) or ()
    if len(searched) > 1:
        return [Objective(objective.metric, objective.mode) for objective in searched]
    cost = "cost/gpu_seconds" if spec.resources.trial.gpu else "cost/seconds"
    return [Objective(spec.rank.metric, spec.rank.mode), Objective(cost, "min")]


def front(results: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> list[int]:
    """Positions of the results that none is as good as in every objective and better in one.

    Equal results are on the front together; a result without one of the metrics is not compared.
    """
    compared = [
        position
        for position, metrics in enumerate(results)
        if all(objective.metric in metrics for objective in objectives)
    ]
    losses = np.array(
        [[objective.sign * results[position][objective.metric] for objective in objectives] for position in compared]
    )
    found = []
    for position, own in zip(compared, losses, strict=True):
        dominated = (losses <= own).all(axis=1) & (losses < own).any(axis=1)
        if not dominated.any():
            found.append(position)
    return found
