from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import random
import signal
import time

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from aream.errors import AreamError
from orchestrator import search_study
from orchestrator.plan import Planner
from orchestrator.search import SearchedPoints
from orchestrator.spec_reader import load_spec

RANGES = """
  method.alpha_low: {uniform: [0.1, 0.9]}
  method.alpha_high: {uniform: [0.1, 0.9]}
  train.lr: {loguniform: [1.0e-5, 1.0e-2]}
  method.layer_index: {int: [1, 5]}
  method.fusion_layers: {choice: [all, [0, 1]]}
"""
ORDERED = "where: ['method.alpha_low < method.alpha_high']\n"
ONE = "\n  method.alpha_low: {uniform: [0.1, 0.5]}\n"
LISTED = "\n  method.alpha_low: [0.1, 0.2, 0.3]\n  train.epochs: {int: [20, 23]}\n"
METHODS = """
  method: {choice: [{name: aream}, {name: mctformer}]}
  method.alpha_low: {uniform: [0.1, 0.5], when: "method.name == 'aream'"}
"""


@pytest.fixture
def search(tmp_path):
    def search(axes=RANGES, *, where=ORDERED, folder="run", seeds=(0,), rest="", **options):
        path = tmp_path / "sweep.yaml"
        path.write_text(
            f"name: swept\nseeds: {list(seeds)}\nrank: {{metric: m}}\naxes: {axes}{where}{rest}"
            f"search: {json.dumps({'trials': 6, **options})}\n"
        )
        return SearchedPoints(Planner(load_spec(path), {}), tmp_path / folder)

    return search


def flat(point):
    return 0.0


def play(searcher, score=flat, limit=2000):
    """Suggest and finish one after the other; returns what was suggested."""
    seen = []
    for number in range(limit):
        point = searcher.suggest(f"t{number}")
        if not isinstance(point, dict):
            assert point == "FINISHED"
            return seen
        seen.append(point)
        end(searcher, f"t{number}", score(point))
    raise AssertionError("the search does not end")


def end(searcher, trial_id, score):
    result = score if isinstance(score, dict) else {"m": score}
    searcher.on_trial_complete(trial_id, {**result, "complete": 1.0})


def texts(points):
    return [json.dumps(point["values"], sort_keys=True) for point in points]


def study_of(searcher) -> optuna.Study:
    return searcher.study.record.study


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


@pytest.mark.parametrize(("algorithm", "trials"), [("tpe", 60), ("nsga2", 160)])
def test_it_learns(search, algorithm, trials):
    """Later points lie nearer the optimum than the first, random ones."""

    def miss(point):
        low, high = point["values"]["method.alpha_low"], point["values"]["method.alpha_high"]
        return abs(low - 0.3) + abs(high - 0.6)

    points = play(search(trials=trials, algorithm=algorithm), lambda point: -miss(point))
    early, late = points[:20], points[-20:]
    assert sum(map(miss, late)) < 0.6 * sum(map(miss, early))


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


def test_refused_points_leave_the_objective_to_be_learned(search):
    """Most of the square is refused, and still the later points are the better ones."""
    points = play(
        search(where="where: ['method.alpha_low < method.alpha_high', 'method.alpha_high > 0.75']\n", trials=80),
        lambda point: -abs(point["values"]["method.alpha_low"] - 0.3),
    )
    late = [abs(point["values"]["method.alpha_low"] - 0.3) for point in points[-20:]]
    assert sum(late) / 20 < 0.1


def test_a_constraint_nothing_can_meet_ends_with_a_reason(search, monkeypatch):
    monkeypatch.setattr(search_study, "MAX_TRIES", 100)
    with pytest.raises(AreamError, match="where: 100 of 100 points in a row were refused"):
        search(where="where: ['method.alpha_low > 2']\n").suggest("t0")
    with pytest.raises(AreamError, match="where: no point of the axes"):
        search(LISTED, where="where: ['train.epochs > 99']\n").suggest("t0")


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
    with pytest.raises(AreamError, match="no number for m; it has a/b"):
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


# Continuing


def value_of(point):
    return -((point["values"]["method.alpha_low"] - 0.3) ** 2)


def test_raising_trials_continues(search):
    first = play(search(trials=5), value_of)
    searcher = search(trials=9)
    second = play(searcher, value_of)
    assert texts(second)[:5] == texts(first)
    assert [point["replayed"] for point in second] == [True] * 5 + [False] * 4
    assert len(set(texts(second))) == 9
    assert [trial.state.name for trial in study_of(searcher).trials] == ["COMPLETE"] * 9
    assert len(play(search(trials=3), value_of)) == 3


def test_after_a_kill_what_was_not_finished_comes_first(search, tmp_path):
    first = search(trials=8)
    points = [first.suggest(f"t{number}") for number in range(4)]
    for number in (0, 3):
        end(first, f"t{number}", 0.5)
    log = tmp_path / "run" / "search.log"
    log.write_text(log.read_text() + '{"op_code": 4, "wor')  # the driver died while it wrote
    searcher = search(trials=8)
    again = play(searcher, flat)
    assert texts(again)[:4] == [texts(points)[index] for index in (1, 2, 0, 3)]
    assert len(set(texts(again))) == 8
    trials = study_of(searcher).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 8
    assert [trial.value for trial in trials] == [0.5, 0, 0, 0.5, 0, 0, 0, 0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1))
def test_a_log_cut_anywhere_is_continued(search, tmp_path, cut):
    """Whatever was written when the process was killed: no result is lost that was there, no point comes twice."""
    folder = f"cut{cut}"
    log = tmp_path / folder / "search.log"
    log.unlink(missing_ok=True)
    play(search(trials=5, folder=folder), value_of)
    content = log.read_bytes()
    log.write_bytes(content[: int(cut * len(content))])
    told = log.read_text().rpartition("\n")[0].count('"state":1')
    searcher = search(trials=7, folder=folder)
    points = play(searcher, value_of)
    assert sum(point["replayed"] for point in points) == told
    assert len(set(texts(points))) == len(points) == 7
    assert [trial.state for trial in study_of(searcher).trials] == [TrialState.COMPLETE] * 7


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_a_search_killed_again_and_again_loses_and_repeats_nothing(search, tmp_path, storage):
    """A child process plays; it is killed at ten arbitrary instants, and the next one goes on."""
    options = {"trials": 40, "storage": f"sqlite:///{tmp_path}/search.db" if storage else None}
    search(**options)
    chance = random.Random(0)
    for _ in range(10):
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                play(search(**options), value_of)
            os._exit(0)
        time.sleep(chance.uniform(0.01, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    searcher = search(**options)
    points = play(searcher, value_of)
    assert len(set(texts(points))) == len(points) == 40
    trials = study_of(searcher).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 40
    expected = {json.dumps(point["values"]): value_of(point) for point in points}
    assert all(expected[trial.user_attrs["values"]] == trial.value for trial in trials)


def test_a_failed_point_is_tried_again_by_the_next_run(search):
    first = search(trials=2)
    failed = first.suggest("a")
    first.on_trial_complete("a", None, error=True)
    first.suggest("b")
    end(first, "b", 1.0)
    searcher = search(trials=2)
    points = play(searcher, lambda point: 2.0)
    assert texts(points)[0] == texts([failed])[0]
    assert len(points) == 2
    assert [trial.state.name for trial in study_of(searcher).trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert len(play(search(trials=2), flat)) == 2


def test_a_point_stopped_early_stays_so_until_it_has_a_result(search):
    first = search(trials=1)
    first.suggest("a")
    first.on_trial_complete("a", {"epoch": 1.0})
    again = search(trials=1)
    assert again.suggest("a")["replayed"]
    again.on_trial_complete("a", {"stopped": 1.0})
    assert len(study_of(again).trials) == 1
    last = search(trials=1)
    play(last, lambda point: 3.0)
    assert [trial.state.name for trial in study_of(last).trials] == ["PRUNED", "COMPLETE"]
    assert search(trials=1).study.complete == 1


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_edited_axes_keep_the_points_that_still_fit(search, tmp_path, storage):
    options = {"storage": f"sqlite:///{tmp_path}/search.db" if storage else None}
    axes = "\n  method.alpha_low: [0.1, 0.2{more}]\n  train.epochs: [20, 30]\n"
    play(search(axes.format(more=""), trials=4, **options), lambda point: point["values"]["method.alpha_low"])
    searcher = search(axes.format(more=", 0.3"), trials=9, **options)
    points = play(searcher, lambda point: -1.0)
    assert [point["replayed"] for point in points] == [True] * 4 + [False] * 2
    known = {tuple(p["values"].values()) for p in points[:4]}
    assert known == set(itertools.product([0.1, 0.2], [20, 30]))
    assert sorted(trial.value for trial in study_of(searcher).trials) == [-1.0, -1.0, 0.1, 0.1, 0.2, 0.2]
    fewer = search("\n  method.alpha_low: [0.2, 0.3]\n  train.epochs: [20]\n", trials=9, **options)
    assert len(play(fewer)) == 2
    narrowed = search(axes.format(more=", 0.3"), where="where: ['method.alpha_low > 0.1']\n", trials=9, **options)
    assert len(play(narrowed)) == 4


def test_more_seeds_run_the_same_points_again(search):
    first = play(search(trials=3), flat)
    points = play(search(trials=3, seeds=(0, 1)), flat)
    assert texts(points)[::2] == texts(first)
    assert not any(point["replayed"] for point in points)


def test_a_sweep_with_another_training_shares_nothing(search, tmp_path):
    storage = f"sqlite:///{tmp_path}/search.db"
    first = search(trials=3, storage=storage)
    play(first, flat)
    other = search(trials=3, storage=storage, rest="train: {epochs: 25}\n")
    assert study_of(other).study_name != study_of(first).study_name
    assert not any(point["replayed"] for point in play(other, flat))
    assert len(study_of(other).trials) == 3


def test_a_stale_point_of_an_edited_search_is_not_left_running(search, tmp_path):
    storage = f"sqlite:///{tmp_path}/search.db"
    old = search(LISTED, trials=4, storage=storage)
    point = old.suggest("t0")
    new = search(LISTED.replace("0.3]", "0.3, 0.4]"), trials=4, storage=storage)
    assert texts([new.suggest("t0")]) == texts([point])
    study = optuna.load_study(study_name=study_of(old).study_name, storage=storage)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_tune_can_keep_the_searcher_beside_its_trials(search):
    assert pickle.loads(pickle.dumps(search(METHODS)))


def test_forgetting_starts_anew(search, tmp_path):
    searcher = search(trials=2, storage=f"sqlite:///{tmp_path}/search.db")
    play(searcher)
    searcher.study.record.forget()
    assert not any(p["replayed"] for p in play(search(trials=2, storage=f"sqlite:///{tmp_path}/search.db")))


def test_a_record_of_something_else_is_named(search, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "search.log").write_text("hello\nworld\n")
    with pytest.raises(AreamError, match=r"search.log cannot be used"):
        search()
