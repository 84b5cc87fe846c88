"""The content of a summary of any number of configurations, drawn at random."""

from __future__ import annotations

import random

from orchestrator.results.importance import axis_importance
from orchestrator.results.pareto import front
from orchestrator.spec.settings import Goal

GOALS = [Goal(metric="pseudo/miou", mode="max"), Goal(metric="cost/seconds", mode="min")]
KINDS = {
    "method.name": "grid", "method.alpha_low": "uniform", "method.alpha_high": "uniform", "train.lr": "loguniform",
    "inference.layers": "grid", "train.epochs": "int",
}  # fmt: skip


def content(count: int, **changes) -> dict:
    rng = random.Random(count)
    ranking = []
    for _ in range(count):
        config = {
            "method.name": rng.choice(["aream", "mctformer"]),
            "train.lr": 10 ** rng.uniform(-5, -2),
            "inference.layers": rng.choice(["none", [0, 3], "a name that is much longer than any label can be"]),
            "train.epochs": rng.randint(1, 9),
        }
        if config["method.name"] == "aream":
            config |= {"method.alpha_low": rng.uniform(0.1, 0.4), "method.alpha_high": rng.uniform(0.4, 0.9)}
        metrics = {"pseudo/miou": rng.random(), "cost/seconds": 10 ** rng.uniform(0, 4)}
        ranking.append(
            {
                "config": config,
                "metrics": metrics,
                "spread": dict.fromkeys(metrics, 0.01),
                "label_artifact": "pseudo_label-0123456789abcdef",
                "trial_keys": ["train_cam-0123456789abcdef"],
            }
        )
    ranking.sort(key=lambda entry: -entry["metrics"]["pseudo/miou"])
    return {
        "rank": {"metric": "pseudo/miou", "mode": "max"},
        "axes": list(KINDS),
        "axis_kinds": KINDS,
        "ranking": ranking,
        "pareto": {
            "objectives": [{"metric": goal.metric, "mode": goal.mode} for goal in GOALS],
            "front": front([entry["metrics"] for entry in ranking], GOALS),
        },
        "importance": axis_importance(ranking, KINDS, GOALS[0]),
        **changes,
    }
