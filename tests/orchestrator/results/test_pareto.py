from __future__ import annotations

import random

import pytest
import sweep_results
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.results.pareto import front, objectives, told_front
from orchestrator.spec.settings import Goal, goal

FEW = st.integers(0, 4)
RANK, COST = Goal(metric="pseudo/miou", mode="max"), Goal(metric="cost/seconds", mode="min")


def beats(one: dict, other: dict, goals: list[Goal]) -> bool:
    as_good = better = 0
    for wanted in goals:
        ours, theirs = one[wanted.metric], other[wanted.metric]
        if wanted.mode == "min":
            ours, theirs = -ours, -theirs
        as_good += ours >= theirs
        better += ours > theirs
    return as_good == len(goals) and better > 0


@given(
    st.lists(st.fixed_dictionaries({"a": FEW, "b": FEW, "c": FEW}), max_size=20),
    st.sampled_from(["max", "min"]), st.sampled_from(["max", "min"]), st.sampled_from([2, 3]),
)  # fmt: skip
def test_the_front_is_what_a_loop_over_all_pairs_finds(results, first, second, count):
    goals = [goal("a", first), goal("b", second), goal("c", "max")][:count]
    expected = [index for index, own in enumerate(results) if not any(beats(other, own, goals) for other in results)]
    assert front(results, goals) == expected


def test_equal_results_are_on_the_front_together():
    assert front([{"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": 0, "b": 3}], [goal("a", "max"), goal("b", "min")]) == [0, 1]


def test_a_result_without_a_metric_is_not_compared():
    assert front([{"a": 9}, {"a": 1, "b": 2}], [goal("a", "max"), goal("b", "min")]) == [1]
    assert front([], [goal("a", "max"), goal("b", "min")]) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), [("pseudo/miou", "max"), ("cost/seconds", "min")]),
        (("resources={trial: {cpu: 1, gpu: 0.5}}",), [("pseudo/miou", "max"), ("cost/gpu_seconds", "min")]),
        (
            ("search={trials: 4, objectives: [{metric: val/map}, {metric: cost/seconds, mode: min}]}",),
            [("val/map", "max"), ("cost/seconds", "min")],
        ),
        (
            ("search={trials: 4, objectives: [{metric: val/map}]}",),
            [("pseudo/miou", "max"), ("cost/seconds", "min")],
        ),
    ],
)
def test_what_is_compared(tmp_path, overrides, expected):
    spec = sweep_results.planner(tmp_path, *overrides).spec
    assert [(wanted.metric, wanted.mode) for wanted in objectives(spec)] == expected


def noise(*key):
    return random.Random(repr(key)).gauss(0, 0.002)


def priced(points, seeds=3):
    """Entries of (mIoU, seconds), with a little noise in both."""
    entries = []
    for number, (miou, seconds) in enumerate(points):
        own = {
            str(seed): {"pseudo/miou": miou + noise(number, seed), "cost/seconds": seconds + noise(seed, number)}
            for seed in range(seeds)
        }
        means = {name: sum(values[name] for values in own.values()) / seeds for name in own["0"]}
        keys = [f"train_cam-{number}-{seed}" for seed in range(seeds)]
        entries.append(
            {"config": {"n": number}, "metrics": means, "seeds": [*range(seeds)], "trial_keys": keys, "per_seed": own}
        )
    return sorted(entries, key=lambda each: -RANK.merit(each["metrics"]))


def test_noise_puts_nothing_on_the_front():
    entries = priced([(0.6, 10.0), (0.5, 5.0), (0.5, 9.0)])
    on_it = [entries[position]["config"]["n"] for position in told_front(entries, [RANK, COST], asked=False)]
    assert sorted(on_it) == [0, 1]
    same = priced([(0.5, 5.0), (0.5, 5.0), (0.5, 5.0)])
    assert len(told_front(same, [RANK, COST], asked=False)) == 1
    dear = priced([(0.5, 5.0), (0.5005, 50.0)])
    on_it = [dear[position]["config"]["n"] for position in told_front(dear, [RANK, COST], asked=False)]
    assert on_it == [0]


def test_a_front_of_one_seed_is_there_only_if_a_search_looked_for_it():
    entries = priced([(0.6, 10.0), (0.5, 5.0)], seeds=1)
    assert told_front(entries, [RANK, COST], asked=False) == []
    assert len(told_front(entries, [RANK, COST], asked=True)) == 2
    assert told_front([], [RANK, COST], asked=False) == []
