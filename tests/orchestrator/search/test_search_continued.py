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
from searching import LISTED, METHODS, end, flat, play, study_of, texts

from aream.errors import AreamError


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


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.slow
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
    assert not again.suggest("a")["replayed"]  # it may be stopped again
    again.on_trial_complete("a", {"stopped": 1.0})
    assert len(study_of(again).trials) == 1
    last = search(trials=1)
    play(last, lambda point: 3.0)
    assert [trial.state.name for trial in study_of(last).trials] == ["PRUNED", "COMPLETE"]
    assert search(trials=1).study.complete == 1


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_forgetting_starts_anew(search, tmp_path):
    searcher = search(trials=2, storage=f"sqlite:///{tmp_path}/search.db")
    play(searcher)
    searcher.study.record.forget()
    assert not any(p["replayed"] for p in play(search(trials=2, storage=f"sqlite:///{tmp_path}/search.db")))


def test_a_record_of_something_else_is_named(search, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "search.log").write_text("hello\nworld\n")
    with pytest.raises(AreamError, match=r"search.log: is damaged \(line 1.*move it away"):
        search()
