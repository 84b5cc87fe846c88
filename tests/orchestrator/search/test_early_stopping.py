from __future__ import annotations

import zlib

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from sweep_results import planner

from orchestrator.search.early_stopping import scheduler
from orchestrator.search.searchers import ListedPoints
from orchestrator.search.stopped_trials import Seen
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError

WARMUP, EPOCHS = 3, 12


class FakeTrial:
    def __init__(self, name: str, *, point: str | None = None, replayed: bool = False) -> None:
        self.trial_id = name
        self.config = {"values": {}, "seed": zlib.crc32((point or name).encode()), "replayed": replayed}


@pytest.fixture
def spec(tmp_path):
    def spec(settings: str):
        path = tmp_path / "sweep.yaml"
        path.write_text(f"name: x\ntrain: {{epochs: {EPOCHS}, warmup_epochs: {WARMUP}}}\n{settings}")
        return load_spec(path)

    return spec


def train(stopping, name, score, *, replayed=False):
    """The last epoch a trial reaches whose metric is ``score`` after the warm-up."""
    trial = FakeTrial(name, replayed=replayed)
    stopping.on_trial_add(None, trial)
    for epoch in range(1, EPOCHS + 1):
        row = {"epoch": float(epoch), "val/map": 0.0 if epoch <= WARMUP else score}
        if stopping.on_trial_result(None, trial, row) != TrialScheduler.CONTINUE:
            stopping.on_trial_complete(None, trial, row)
            return epoch
    final = {**row, "complete": 1.0}
    assert stopping.on_trial_result(None, trial, final) == TrialScheduler.CONTINUE
    stopping.on_trial_complete(None, trial, final)
    return epoch


def test_without_a_scheduler_nothing_is_stopped(spec):
    assert type(scheduler(spec(""))) is FIFOScheduler


def test_asha_counts_its_rungs_from_the_end_of_the_warm_up(spec):
    stopping = scheduler(spec("scheduler: {grace_epochs: 2, reduction_factor: 3}\n"))
    assert train(stopping, "good", 0.9) == EPOCHS
    assert train(stopping, "bad", 0.1) == WARMUP + 2
    assert train(stopping, "better", 0.95) == EPOCHS
    assert train(stopping, "middling", 0.92) == WARMUP + 2 * 3


def test_asha_on_a_metric_that_should_be_small(spec):
    stopping = scheduler(spec("scheduler: {grace_epochs: 2, mode: min}\n"))
    assert train(stopping, "good", 0.1) == EPOCHS
    assert train(stopping, "bad", 0.9) == WARMUP + 2


def test_a_training_at_its_last_epoch_is_not_stopped(spec):
    """A rung lies exactly there: 9 epochs after the warm-up, 3 x 3."""
    stopping = scheduler(spec("scheduler: {grace_epochs: 3}\n"))
    for name, late in (("first", 0.9), ("second", 0.1)):
        trial = FakeTrial(name)
        stopping.on_trial_add(None, trial)
        for epoch in range(1, EPOCHS + 1):
            row = {"epoch": float(epoch), "val/map": late if epoch == EPOCHS else 0.5}
            assert stopping.on_trial_result(None, trial, row) == TrialScheduler.CONTINUE


def test_median_waits_for_enough_trials_and_the_grace(spec):
    stopping = scheduler(spec("scheduler: {name: median, grace_epochs: 4, min_trials: 2}\n"))
    assert train(stopping, "first", 0.2) == EPOCHS
    assert train(stopping, "second", 0.5) == EPOCHS
    assert train(stopping, "third", 0.1) == WARMUP + 4
    assert train(stopping, "fourth", 0.9) == EPOCHS


@pytest.mark.parametrize("settings", ["scheduler: {grace_epochs: 2}\n", "scheduler: {name: median, min_trials: 1}\n"])
def test_trials_without_rows_are_no_trouble(spec, settings):
    stopping = scheduler(spec(settings))
    for name, result in (("failed", {"failure": "x"}), ("stopped", {"stopped": 1.0}), ("stored", {"complete": 1.0})):
        trial = FakeTrial(name)
        stopping.on_trial_add(None, trial)
        assert stopping.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE
        stopping.on_trial_complete(None, trial, result)
    assert train(stopping, "good", 0.9) == EPOCHS
    assert train(stopping, "bad", 0.1) < EPOCHS


def test_a_training_that_was_paused_is_counted_once(spec):
    """The median of 0.3 and 0.9 lets 0.7 go on; that of 0.3, 0.9 and 0.9 again would not."""
    stopping = scheduler(spec("scheduler: {grace_epochs: 8, reduction_factor: 2}\n"))
    assert train(stopping, "good", 0.9) == EPOCHS
    assert train(stopping, "bad", 0.3) == WARMUP + 8
    again = FakeTrial("good, after its pause", point="good")
    stopping.on_trial_add(None, again)
    for epoch in range(1, EPOCHS + 1):
        row = {"epoch": float(epoch), "val/map": 0.9}
        assert stopping.on_trial_result(None, again, row) == TrialScheduler.CONTINUE
    assert train(stopping, "middling", 0.7) == EPOCHS


@pytest.mark.parametrize("settings", ["scheduler: {grace_epochs: 2}\n", "scheduler: {name: median, min_trials: 1}\n"])
def test_a_pause_changes_nothing_about_who_is_stopped_and_when(spec, settings):
    def ends(*, paused):
        stopping, before = scheduler(spec(settings)), FakeTrial("early good")
        after = FakeTrial("after its pause", point="early good") if paused else before
        again = range(1, EPOCHS + 1) if paused else range(WARMUP + 4, EPOCHS + 1)  # a resumed training tells all rows
        stopping.on_trial_add(None, before)
        for epoch in range(1, WARMUP + 4):
            row = {"epoch": float(epoch), "val/map": 0.7}
            assert stopping.on_trial_result(None, before, row) == TrialScheduler.CONTINUE
        for other in ("a", "b", "c"):
            train(stopping, other, 0.8)
        train(stopping, "poor", 0.6)
        if paused:
            stopping.on_trial_complete(None, before, {"paused": 1.0})
            stopping.on_trial_add(None, after)
        for epoch in again:
            row = {"epoch": float(epoch), "val/map": 0.7 if epoch < WARMUP + 4 else 0.75}
            if stopping.on_trial_result(None, after, row) != TrialScheduler.CONTINUE:
                return epoch
        return None

    assert ends(paused=True) == ends(paused=False)


def test_the_best_of_before_a_pause_counts(spec):
    stopping = scheduler(spec("scheduler: {name: median, min_trials: 1}\n"))
    assert train(stopping, "other", 0.5) == EPOCHS
    before, after = FakeTrial("before"), FakeTrial("after", point="before")
    stopping.on_trial_add(None, before)
    for epoch in range(1, WARMUP + 4):
        stopping.on_trial_result(None, before, {"epoch": float(epoch), "val/map": 0.9})
    stopping.on_trial_add(None, after)
    for epoch in range(WARMUP + 4, EPOCHS + 1):
        row = {"epoch": float(epoch), "val/map": 0.1}
        assert stopping.on_trial_result(None, after, row) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("settings", ["scheduler: {grace_epochs: 2}\n", "scheduler: {name: median, min_trials: 1}\n"])
def test_what_an_earlier_run_finished_is_compared_with_but_not_stopped(spec, settings):
    stopping = scheduler(spec(settings))
    assert train(stopping, "good", 0.9, replayed=True) == EPOCHS
    assert train(stopping, "poor but finished", 0.1, replayed=True) == EPOCHS
    assert train(stopping, "poor", 0.05) < EPOCHS


def test_a_finished_training_is_compared_with_to_its_end_however_poor(spec):
    """The median of 0.9, 0.1 and 0.1 lets 0.6 go on, at every epoch."""
    stopping = scheduler(spec("scheduler: {name: median, min_trials: 1}\n"))
    for number, score in enumerate((0.9, 0.1, 0.1)):
        train(stopping, f"finished {number}", score, replayed=True)
    assert train(stopping, "new", 0.6) == EPOCHS


def test_a_grace_longer_than_the_training_is_refused(spec):
    with pytest.raises(SpecError, match="need fewer than the 9 epochs after the warm-up"):
        spec("scheduler: {grace_epochs: 9}\n")


@pytest.mark.parametrize(
    ("settings", "earlier"),
    [("scheduler: {grace_epochs: 2}\n", 1), ("scheduler: {name: median, grace_epochs: 2, min_trials: 2}\n", 2)],
)
def test_a_resumed_grid_compares_with_what_earlier_runs_know(spec, settings, earlier):
    """Whole trainings from the store, and the epochs of one that was stopped."""
    rows = [{"epoch": float(epoch), "val/map": 0.9, "lr": 0.1} for epoch in range(1, EPOCHS + 1)]
    seen = [Seen({}, number, rows) for number in range(earlier)]
    alone, resumed = scheduler(spec(settings)), scheduler(spec(settings), seen)
    assert train(alone, "bad", 0.1) == EPOCHS
    assert train(resumed, "bad", 0.1) == WARMUP + 2
    assert train(resumed, "good", 0.95) == EPOCHS
    of_stopped = [{"epoch": float(epoch), "val/map": 0.2} for epoch in range(WARMUP + 1, WARMUP + 3)]
    again = scheduler(spec("scheduler: {grace_epochs: 2, reduction_factor: 2}\n"), [Seen({}, 7, of_stopped)])
    assert train(again, "worse than what was stopped", 0.1) == WARMUP + 2


def test_a_grid_says_which_trainings_are_finished(tmp_path):
    """Only what follows them is missing: a new labelling, say. They are not stopped for it."""
    points = ListedPoints(planner(tmp_path).grid()[:2], trained={1})
    assert [points.suggest(name)["replayed"] for name in "ab"] == [False, True]
    assert points.suggest("c") == ListedPoints.FINISHED
