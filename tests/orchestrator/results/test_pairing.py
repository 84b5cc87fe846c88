from __future__ import annotations

import random

import pytest

from orchestrator.reporting.sections import difference
from orchestrator.results.pairing import paired_differences
from orchestrator.spec.settings import goal


def entry(method: str, scores: list[float], **config) -> dict:
    keys = {key.replace("__", "."): value for key, value in config.items()}
    return {
        "method": method,
        "config": {"method.name": method, **keys},
        "per_seed": {str(seed): {"pseudo/miou": score} for seed, score in enumerate(scores)},
    }


def test_differences_by_hand():
    entries = [entry("aream", [0.50, 0.60, 0.55]), entry("mctformer", [0.48, 0.59, 0.56])]
    found, none = paired_differences(entries, goal("pseudo/miou", "max"))
    assert none is None
    assert found["baseline"] == 1
    assert found["differences"] == pytest.approx({"0": 0.02, "1": 0.01, "2": -0.01})
    assert found["mean"] == pytest.approx(0.02 / 3)
    # (0.02 - m)^2 + (0.01 - m)^2 + (0.01 + m)^2 with m = 0.02 / 3 is 14 / 30000, over 2, and its root
    assert found["spread"] == pytest.approx((14 / 60000) ** 0.5)
    assert (found["n"], found["better"]) == (3, 2)
    assert difference(found) == "+0.0067 ± 0.0153 (n=3, better in 2)"


def test_a_shift_common_to_a_seed_cancels():
    entries = [entry("aream", [0.31, 0.51, 0.91]), entry("mctformer", [0.30, 0.50, 0.90])]
    found = paired_differences(entries, goal("pseudo/miou", "max"))[0]
    assert found["spread"] == pytest.approx(0.0, abs=1e-9)


def test_fewer_than_three_seeds_say_nothing_about_chance():
    two = paired_differences([entry("aream", [0.5, 0.6]), entry("mctformer", [0.4, 0.4])], goal("pseudo/miou", "max"))[
        0
    ]
    one = paired_differences([entry("aream", [0.5]), entry("mctformer", [0.4, 0.4])], goal("pseudo/miou", "max"))[0]
    assert (two["n"], two["better"]) == (2, None)
    assert (one["n"], one["better"], one["spread"]) == (1, None, None)
    assert difference(two) == "+0.1500 ± 0.0707 (n=2)"
    assert difference(one) == "+0.1000 (n=1)"


def test_the_baseline_is_the_best_with_the_other_axes_equal():
    entries = [
        entry("aream", [0.9], inference__layers="none", method__alpha_low=0.2),
        entry("mctformer", [0.8], inference__layers="all"),
        entry("mctformer", [0.7], inference__layers="none"),
        entry("mctformer", [0.6], inference__layers="none", method__layer_index=2),
        entry("aream", [0.5], inference__layers="shallow"),
    ]
    found = paired_differences(entries, goal("pseudo/miou", "max"))
    assert found[0]["baseline"] == 2
    assert [pair is None for pair in found] == [False, True, True, False, True]


def test_the_baseline_is_the_one_that_a_look_at_all_pairs_finds():
    rng = random.Random(0)
    entries = []
    for _ in range(300):
        method = rng.choice(["aream", "mctformer"])
        axes = {"method__alpha_low": rng.random(), "labels__refiner": rng.choice(["none", {"name": "par"}, [0, 1]])}
        if rng.random() < 0.5:
            axes["inference__layers"] = rng.choice(["all", None, [0, 1], 1])
        entries.append(entry(method, [rng.random()], **axes))

    def outside(one):
        return {key: value for key, value in one["config"].items() if not key.startswith("method")}

    differences = paired_differences(entries, goal("pseudo/miou"))
    for position, (one, found) in enumerate(zip(entries, differences, strict=True)):
        fitting = [
            at
            for at, other in enumerate(entries)
            if other["method"] == "mctformer" and outside(other).items() <= outside(one).items()
        ]
        assert (found and found["baseline"]) == (None if fitting[:1] in ([], [position]) else fitting[0])


def test_lower_may_be_better():
    entries = [entry("aream", [0.1, 0.2, 0.3]), entry("mctformer", [0.2, 0.3, 0.4])]
    found = paired_differences(entries, goal("pseudo/miou", "min"))[0]
    assert found["mean"] == pytest.approx(-0.1)
    assert found["better"] == 3


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_tie_is_not_better(mode):
    entries = [entry("aream", [0.5, 0.6, 0.7]), entry("mctformer", [0.5, 0.6, 0.7])]
    assert paired_differences(entries, goal("pseudo/miou", mode))[0]["better"] == 0


def test_no_seed_in_common_and_no_baseline():
    other = entry("mctformer", [0.5])
    other["per_seed"] = {"7": {"pseudo/miou": 0.5}}
    assert paired_differences([entry("aream", [0.5]), other], goal("pseudo/miou", "max")) == [None, None]
    assert paired_differences([entry("aream", [0.5])], goal("pseudo/miou", "max")) == [None]
