"""Importance of each axis for being among the best configurations: PED-ANOVA over the ranking."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from orchestrator.spec.settings import Goal

LEAST_CONFIGURATIONS = 10
LEAST_TOP = 5
"""Configurations that count as the best at least; Optuna's documentation asks for as many."""
TOP_SHARE = 0.1
ENOUGH = 5000
"""Most configurations used; beyond that every k-th of the ranking, since Optuna takes milliseconds for each."""
LISTED = ("grid", "choice")


def axis_importance(entries: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], rank: Goal) -> dict[str, Any]:
    """Shares of the axes, largest first and summing to 1, or ``left_out``: a sentence that says why there are none.

    Args:
        entries: ranked configurations, best first; an axis may be absent from some.
        kinds: axis -> grid, choice, uniform, loguniform or int.
    """
    metric = rank.metric
    scored = [entry for entry in entries if metric in entry["metrics"]]
    known = len(scored)
    scored = scored[:: math.ceil(known / ENOUGH) or 1]
    varied = {key: kind for key, kind in kinds.items() if len({_label(entry["config"], key) for entry in scored}) > 1}
    losses = sorted(-rank.merit(entry["metrics"]) for entry in scored)
    top = max(LEAST_TOP, math.ceil(TOP_SHARE * len(scored)))
    if len(varied) < 2:
        return {"left_out": "Importance compares axes, and fewer than two vary among the ranked configurations."}
    if len(scored) < LEAST_CONFIGURATIONS:
        needed = f"{LEAST_CONFIGURATIONS} configurations with {metric}"
        return {"left_out": f"Importance needs {needed}; there are {len(scored)}."}
    if losses[0] == losses[-1]:
        return {"left_out": f"All configurations have the same {metric}: no axis matters to it."}
    if losses[top - 1] == losses[-1]:
        return {"left_out": f"Too many configurations share the worst {metric} to tell the best {top} from the rest."}
    values = _evaluate(scored, varied, rank, top / len(scored))
    total = sum(values.values())
    if total <= 0:
        return {"left_out": f"No axis tells the best {top} configurations from the rest."}
    best = sum(loss <= losses[top - 1] for loss in losses)
    shares = {key: value / total for key, value in sorted(values.items(), key=lambda item: -item[1])}
    found = {"method": "PED-ANOVA", "metric": metric, "top": best, "configurations": len(scored), "shares": shares}
    return found | ({"of": known} if known > len(scored) else {})


def _evaluate(
    entries: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], rank: Goal, quantile: float
) -> dict[str, float]:
    distributions = {key: _distribution(entries, key, kind) for key, kind in kinds.items()}
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it announces every study
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        logger.setLevel(level)
    for entry in entries:
        present = {key: kind for key, kind in kinds.items() if key in entry["config"]}
        study.add_trial(
            optuna.trial.create_trial(
                params={
                    key: _label(entry["config"], key) if kind in LISTED else entry["config"][key]
                    for key, kind in present.items()
                },
                distributions={key: distributions[key] for key in present},
                value=rank.merit(entry["metrics"]),
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    values: dict[str, float] = evaluator.evaluate(study)
    return values


def _distribution(entries: Sequence[Mapping[str, Any]], key: str, kind: str) -> Any:
    """Over the values that occur: a range changed between two runs of a sweep still holds them all."""
    present = [entry["config"] for entry in entries if key in entry["config"]]
    if kind in LISTED:
        return optuna.distributions.CategoricalDistribution(sorted({_label(config, key) for config in present}))
    low, high = min(config[key] for config in present), max(config[key] for config in present)
    if kind == "int":
        return optuna.distributions.IntDistribution(int(low), int(high))
    return optuna.distributions.FloatDistribution(low, high, log=kind == "loguniform")


def _label(config: Mapping[str, Any], key: str) -> str:
    """Any value as a category: lists and components are no parameter values to Optuna."""
    return json.dumps(config[key], sort_keys=True) if key in config else "absent"
