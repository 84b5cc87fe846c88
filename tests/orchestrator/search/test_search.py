from __future__ import annotations

import itertools
import json

import pytest
from optuna.trial import TrialState
from searching import LISTED, METHODS, end, play, study_of, texts

from aream.errors import AreamError
from orchestrator.search import study


@pytest.mark.parametrize("algorithm", ["tpe", "random", "nsga2"])
def test_every_point_keeps_the_constraint_and_its_range(search, algorithm):
    points = play(search(trials=40, algorithm=algorithm), lambda point: point["values"]["train.lr"])
    assert len(set(texts(points))) == 40
    for point in points:
        values = point["values"]
        assert values["method.alpha_low"] < values["method.alpha_high"]
        assert 1e-5 <= values["train.lr"] <= 1e-2
        assert values["method.layer_index"] in range(1, 6)
        assert values["method.fusion_layers"] in ("all", [0, 1])


@pytest.mark.slow
def test_the_gaussian_process_keeps_the_constraint_and_comes_nearer(search):
    axes = "\n  method.alpha_low: {uniform: [0.1, 0.5]}\n  method.alpha_high: {uniform: [0.1, 0.9]}\n"

    def miss(point):
        return abs(point["values"]["method.alpha_low"] - 0.3)

    points = play(search(axes, trials=20, algorithm="gp"), lambda point: -miss(point))
    assert all(point["values"]["method.alpha_low"] < point["values"]["method.alpha_high"] for point in points)
    assert min(map(miss, points[10:])) < 0.01


def test_the_same_seed_gives_the_same_points_and_another_others(search):
    first, second, other = (
        texts(play(search(folder=name, trials=15, seed=seed), lambda point: point["values"]["method.alpha_low"]))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == second
    assert not set(first) & set(other)


def test_each_point_is_repeated_for_every_seed_and_told_the_mean(search):
    searcher = search(trials=3, seeds=(0, 5))
    points = play(searcher, lambda point: float(point["seed"]))
    assert [point["seed"] for point in points] == [0, 5] * 3
    assert points[0]["values"] == points[1]["values"] != points[2]["values"]
    assert [trial.value for trial in study_of(searcher).trials] == [2.5] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "trials"), [("tpe", 60), ("nsga2", 160)])
def test_it_learns(search, algorithm, trials):
    """BackgroundQueue points lie nearer the optimum than the first, random ones."""

    def miss(point):
        low, high = point["values"]["method.alpha_low"], point["values"]["method.alpha_high"]
        return abs(low - 0.3) + abs(high - 0.6)

    points = play(search(trials=trials, algorithm=algorithm), lambda point: -miss(point))
    early, late = points[:20], points[-20:]
    assert sum(map(miss, late)) < 0.6 * sum(map(miss, early))


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_a_narrow_region_is_found(search, algorithm):
    """Two thousandths of the square, far from its middle."""
    where = (
        "where: ['method.alpha_low < method.alpha_high', 'method.alpha_high < method.alpha_low + 0.01', "
        "'method.alpha_low > 0.8']\n"
    )
    points = play(
        search(where=where, trials=12, algorithm=algorithm), lambda point: point["values"]["method.alpha_low"]
    )
    assert len(points) == 12
    assert all(0.8 < p["values"]["method.alpha_low"] < p["values"]["method.alpha_high"] for p in points)


@pytest.mark.slow
def test_refused_points_leave_the_objective_to_be_learned(search):
    """Most of the square is refused, and still the later points are the better ones."""
    points = play(
        search(where="where: ['method.alpha_low < method.alpha_high', 'method.alpha_high > 0.75']\n", trials=80),
        lambda point: -abs(point["values"]["method.alpha_low"] - 0.3),
    )
    late = [abs(point["values"]["method.alpha_low"] - 0.3) for point in points[-20:]]
    assert sum(late) / 20 < 0.1


def test_a_constraint_nothing_can_meet_ends_with_a_reason(search, monkeypatch):
    monkeypatch.setattr(study, "MAX_TRIES", 100)
    with pytest.raises(AreamError, match="where: 100 of 100 points in a row were refused"):
        search(where="where: ['method.alpha_low > 2']\n").suggest("t0")
    with pytest.raises(AreamError, match="where: no point of the axes"):
        search(LISTED, where="where: ['train.epochs > 99']\n").suggest("t0")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["tpe", "random", "nsga2", "gp"])
def test_conditional_axes_exist_only_where_they_should(search, algorithm):
    searcher = search(METHODS, trials=16, algorithm=algorithm)
    points = play(searcher, lambda point: point["values"].get("method.alpha_low", 0.2))
    plain = [point for point in points if point["values"]["method"]["name"] == "mctformer"]
    assert len(plain) == 1
    assert set(plain[0]["values"]) == {"method"}
    assert all(set(point["values"]) == {"method", "method.alpha_low"} for point in points if point not in plain)


@pytest.mark.parametrize("algorithm", ["tpe", "random", "nsga2"])
def test_a_finite_space_is_gone_through_once_and_then_it_ends(search, algorithm):
    searcher = search(LISTED, where="where: ['train.epochs > 20']\n", trials=50, algorithm=algorithm)
    points = play(searcher, lambda point: point["values"]["method.alpha_low"])
    expected = itertools.product([0.1, 0.2, 0.3], [21, 22, 23])
    assert sorted(tuple(point["values"].values()) for point in points) == sorted(expected)
    assert all(trial.state == TrialState.COMPLETE for trial in searcher.study.study.trials if trial.values)


def test_a_repeated_point_is_answered_when_its_twin_ends(search):
    searcher = search("\n  method.alpha_low: [0.1, 0.2]\n", trials=9)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert texts([first]) != texts([second])
    assert searcher.suggest("c") == "FINISHED"
    for name, score in (("a", 0.25), ("b", 0.75)):
        end(searcher, name, score)
    told = searcher.study.study.trials
    assert {trial.state for trial in told} == {TrialState.COMPLETE}
    scores = {
        json.dumps(first["values"]["method.alpha_low"]): 0.25,
        json.dumps(second["values"]["method.alpha_low"]): 0.75,
    }
    assert all(trial.value == scores[trial.params["method.alpha_low"]] for trial in told)
    assert len(study_of(searcher).trials) == 2


def test_failed_and_stopped_points_are_told_as_what_they_are(search):
    searcher = search(trials=5)
    ends = [(None, True), ({"failure": "x"}, False), ({"epoch": 1}, False), ({"stopped": 1.0}, False)]
    for number, (result, error) in enumerate(ends):
        searcher.suggest(f"t{number}")
        searcher.on_trial_complete(f"t{number}", result, error)
    searcher.suggest("t4")
    end(searcher, "t4", 1.0)
    assert searcher.suggest("t5") == "FINISHED"
    states = [trial.state.name for trial in study_of(searcher).trials]
    assert states == ["FAIL", "FAIL", "PRUNED", "PRUNED", "COMPLETE"]


def test_an_objective_that_no_trial_reports_is_an_error_and_a_missing_number_a_failure(search):
    searcher = search(trials=3)
    searcher.suggest("t0")
    with pytest.raises(AreamError, match="no number for pseudo/miou; it has a/b"):
        end(searcher, "t0", {"a/b": 1.0})
    searcher.suggest("t1")
    end(searcher, "t1", 1.0)
    searcher.suggest("t2")
    end(searcher, "t2", float("nan"))
    assert [trial.state.name for trial in study_of(searcher).trials] == ["RUNNING", "COMPLETE", "FAIL"]


OBJECTIVES = [{"metric": "pseudo/miou"}, {"metric": "cost/seconds", "mode": "min"}]


def front(results):
    def dominates(one, other):
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    return {one for one in results if not any(dominates(other, one) for other in results)}


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "trials"), [("tpe", 40), ("nsga2", 40), ("random", 40), ("gp", 12)])
def test_the_best_trials_of_two_objectives_are_the_pareto_front(search, algorithm, trials):
    searcher = search(trials=trials, algorithm=algorithm, objectives=OBJECTIVES)
    results = []

    def score(point):
        low, high = point["values"]["method.alpha_low"], point["values"]["method.alpha_high"]
        results.append((round(low, 1), round(high + low, 1)))
        return {"pseudo/miou": results[-1][0], "cost/seconds": results[-1][1]}

    play(searcher, score)
    best = {tuple(trial.values) for trial in study_of(searcher).best_trials}
    assert best == front(results)
    assert len(results) == trials
