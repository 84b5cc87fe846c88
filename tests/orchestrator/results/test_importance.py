from __future__ import annotations

import random

import pytest

from orchestrator.results import importance
from orchestrator.results.importance import axis_importance
from orchestrator.spec.settings import goal

KINDS = {"inference.layers": "grid", "train.lr": "loguniform", "method.name": "grid", "method.alpha_low": "uniform"}


def entries(count: int, score, seed: int = 0) -> list[dict]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        config = {
            "inference.layers": rng.choice(["none", "all", [0, 3]]),
            "train.lr": 10 ** rng.uniform(-5, -2),
            "method.name": rng.choice(["aream", "mctformer"]),
        }
        if config["method.name"] == "aream":
            config["method.alpha_low"] = rng.uniform(0.1, 0.4)
        made.append({"config": config, "metrics": {"m": score(config, rng)}})
    return made


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("decisive", ["inference.layers", "method.name"])
def test_the_axis_that_decides_comes_first(mode, decisive):
    wanted = {"inference.layers": [0, 3], "method.name": "mctformer"}[decisive]
    sign = 1 if mode == "max" else -1
    made = entries(80, lambda config, rng: sign * ((config[decisive] == wanted) + 0.01 * rng.random()))
    found = axis_importance(made, KINDS, goal("m", mode))
    assert next(iter(found["shares"])) == decisive
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["shares"].keys() == KINDS.keys()
    assert list(found["shares"].values()) == sorted(found["shares"].values(), reverse=True)


def test_a_range_can_decide_and_the_answer_is_always_the_same():
    made = entries(80, lambda config, rng: -abs(config["train.lr"] - 1e-3))
    found = axis_importance(made, KINDS, goal("m", "max"))
    assert next(iter(found["shares"])) == "train.lr"
    assert axis_importance(made, KINDS, goal("m", "max")) == found


@pytest.mark.parametrize(("count", "top"), [(12, 5), (50, 5), (60, 6), (195, 20)])
def test_the_best_are_a_tenth_and_five_at_least(count, top):
    """Five: Optuna's documentation asks for as many."""
    made = entries(count, lambda config, rng: rng.random())
    assert axis_importance(made, KINDS, goal("m", "max"))["top"] == top


def test_an_axis_that_decides_within_the_best_tenth_only_comes_first():
    """Of the best half, and of all, the other axis says more."""
    made = []
    for index in range(100):
        low = {"inference.layers": "all" if index < 10 else "none", "method.name": "aream" if index < 50 else "x"}
        made.append({"config": low, "metrics": {"m": -float(index)}})
    kinds = {"inference.layers": "grid", "method.name": "grid"}
    assert next(iter(axis_importance(made, kinds, goal("m", "max"))["shares"])) == "inference.layers"


def test_what_must_be_left_out_says_why():
    def constant(config, rng):
        return 0.5

    assert "same m" in axis_importance(entries(30, constant), KINDS, goal("m", "max"))["left_out"]
    few = axis_importance(entries(9, lambda config, rng: rng.random()), KINDS, goal("m", "max"))
    assert few["left_out"] == "Importance needs 10 configurations with m; there are 9."
    one = axis_importance(entries(30, lambda config, rng: rng.random()), {"train.lr": "loguniform"}, goal("m", "max"))
    assert "fewer than two vary" in one["left_out"]
    tied_but_one = entries(30, constant)
    tied_but_one[0]["metrics"]["m"] = 0.6
    assert "share the worst m" in axis_importance(tied_but_one, KINDS, goal("m", "max"))["left_out"]
    assert "left_out" in axis_importance([], KINDS, goal("m", "max"))


def test_components_lists_and_missing_metrics_are_no_problem():
    made = entries(20, lambda config, rng: rng.random())
    for index, one in enumerate(made):
        one["config"]["backbone"] = {"name": "v2", "depth": index % 2}
    made.append({"config": {}, "metrics": {}})
    found = axis_importance(made, KINDS | {"backbone": "grid"}, goal("m", "max"))
    assert "backbone" in found["shares"]
    assert found["configurations"] == 20


@pytest.mark.slow
def test_of_very_many_configurations_an_even_part_tells_the_same(monkeypatch):
    def score(config: dict, rng: random.Random) -> float:
        return 2.0 * (config["inference.layers"] == "all") + (config["method.name"] == "aream") + rng.gauss(0, 0.5)

    made = sorted(entries(3001, score), key=lambda entry: -entry["metrics"]["m"])
    every = axis_importance(made, KINDS, goal("m", "max"))
    assert "of" not in every
    monkeypatch.setattr(importance, "ENOUGH", 2000)
    part = axis_importance(made, KINDS, goal("m", "max"))
    assert (part["configurations"], part["of"]) == (1501, 3001)
    assert part["shares"] == pytest.approx(every["shares"], abs=0.08)
    assert list(part["shares"]) == list(every["shares"])
