from __future__ import annotations

from pathlib import Path

import pytest
import sweep_results

from orchestrator.monitor.forecast import expected_tasks
from orchestrator.monitor.progress import time_left
from orchestrator.monitor.state import SweepState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def state(tmp_path: Path, clock: Clock, trials: int = 0, **expected: int) -> SweepState:
    made = SweepState(tmp_path / "state.json", "s", clock, expected)
    for number in range(trials):
        made.add(f"t{number}", f"trial {number}", "trial", epochs=4)
    return made


def finish(made: SweepState, clock: Clock, key: str, seconds: float) -> None:
    made.update(key, status="running")
    clock.now += seconds
    made.update(key, status="done")


def test_nothing_known_is_unknown(tmp_path, clock):
    made = state(tmp_path, clock, trials=2)
    assert made.forecast().eta_s is None
    assert time_left(made.forecast()) == "time left unknown"
    assert time_left(state(tmp_path, clock).forecast()) == ""


def test_one_after_the_other(tmp_path, clock):
    made = state(tmp_path, clock, trials=4)
    finish(made, clock, "t0", 60)
    assert made.forecast().eta_s == 180
    made.update("t1", status="running")
    clock.now += 20
    assert made.forecast().eta_s == 40 + 120
    clock.now += 100  # it takes longer than the first did
    assert made.forecast().eta_s == 120


def test_two_beside_each_other_take_half_as_long(tmp_path, clock):
    made = state(tmp_path, clock, trials=6)
    for key in ("t0", "t1"):
        made.update(key, status="running")
    clock.now += 60
    for key in ("t0", "t1"):
        made.update(key, status="done")
    assert made.forecast().eta_s == 120
    for key in ("t2", "t3"):
        made.update(key, status="running")
    clock.now += 30
    made.update("t2", status="done")
    assert made.forecast().eta_s == pytest.approx(
        50 + 20
    )  # mean of 60, 60, 30; t3 ends in 20, one of two slots is free


def test_an_odd_one_at_the_end_is_not_halved(tmp_path, clock):
    made = state(tmp_path, clock, trials=3)
    for key in ("t0", "t1"):
        made.update(key, status="running")
    clock.now += 60
    for key in ("t0", "t1"):
        made.update(key, status="done")
    assert made.forecast().eta_s == 60


def test_tasks_from_the_store_say_nothing_about_time(tmp_path, clock):
    made = state(tmp_path, clock, trials=3)
    made.update("t0", cached=True)
    finish(made, clock, "t0", 0.01)
    assert made.forecast().eta_s is None
    finish(made, clock, "t1", 60)
    assert made.forecast().eta_s == 60


def test_a_trial_that_went_on_from_its_checkpoint_is_no_measure_for_a_fresh_one(tmp_path, clock):
    made = state(tmp_path, clock, trials=4)
    made.update("t0", status="running")
    for epoch in (1, 2, 3):  # of its checkpoint
        clock.now += 0.01
        made.row("t0", {"epoch": epoch})
    clock.now += 10
    made.row("t0", {"epoch": 4})
    made.update("t0", status="done")
    made.update("t1", status="running")
    for epoch in (1, 2, 3, 4):
        clock.now += 10
        made.row("t1", {"epoch": epoch})
    clock.now += 5
    made.update("t1", status="done")
    assert made.forecast().eta_s == pytest.approx(2 * 45)


def test_the_pace_of_the_epochs_is_a_lower_bound(tmp_path, clock):
    made = state(tmp_path, clock, trials=1)
    made.update("t0", status="running")
    for seconds in (0.01, 0.01, 20):  # a shared warm-up of two epochs, then one of its own
        clock.now += seconds
        made.row("t0", {"epoch": made.tasks["t0"].epoch + 1})
    left = made.forecast()
    assert left.eta_s is None
    assert left.seconds == pytest.approx(20)
    assert time_left(left) == "at least 20 s left"


def test_phases_add_up_and_an_unmeasured_one_leaves_the_end_open(tmp_path, clock):
    made = state(tmp_path, clock, trials=2, segmentation=2)
    made.add("w", "w", "shared stage", epochs=2)
    finish(made, clock, "w", 30)
    finish(made, clock, "t0", 60)
    left = made.forecast()
    assert (left.seconds, left.complete) == (60, False)
    finish(made, clock, "t1", 60)
    for key in ("s0", "s1"):
        made.add(key, key, "segmentation", epochs=1)
    finish(made, clock, "s0", 100)
    assert made.forecast().eta_s == 100
    finish(made, clock, "s1", 100)
    assert made.forecast().eta_s == 0


def test_points_of_a_search_that_are_still_to_come_count(tmp_path, clock):
    made = state(tmp_path, clock, trials=1, trial=5)
    finish(made, clock, "t0", 60)
    assert made.forecast().eta_s == 240
    made.add("s0", "s0", "segmentation", epochs=1)  # the search gave fewer points than it might have
    assert made.forecast().seconds == 0


def test_a_status_of_another_version_leaves_the_end_open(tmp_path, clock):
    made = state(tmp_path, clock, trials=3)
    finish(made, clock, "t0", 60)
    made.update("t1", status="paused")
    left = made.forecast()
    assert (left.seconds, left.complete) == (60, False)


def test_time_spent_waiting_is_not_time_spent_working(tmp_path, clock):
    made = state(tmp_path, clock, trials=2)
    finish(made, clock, "t0", 60)
    made.update("t1", status="running")
    made.update("t1", status="computed elsewhere")
    clock.now += 1000
    made.update("t1", status="running")
    clock.now += 10
    assert made.forecast().eta_s == 50


def test_what_comes_up_only_later_is_known_from_the_sweep(tmp_path):
    assert expected_tasks(sweep_results.planner(tmp_path).spec) == {}
    more = "segmentation: {select: {top: 3}}\nsearch: {trials: 5}\n"
    assert expected_tasks(sweep_results.planner(tmp_path, more=more).spec) == {"trial": 10, "segmentation": 6}


def test_a_pace_says_nothing_where_the_number_of_epochs_is_not_known(tmp_path, clock):
    made = state(tmp_path, clock)
    made.add("s0", "s0", "segmentation", epochs=0)
    made.update("s0", status="running")
    for epoch in (1, 2):
        clock.now += 20
        made.row("s0", {"epoch": epoch})
    assert (made.forecast().seconds, made.forecast().complete) == (0.0, False)
