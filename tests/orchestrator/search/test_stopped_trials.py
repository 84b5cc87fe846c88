"""A trial that a scheduler stopped stays out of later runs only under that scheduler, and never without a word."""

from __future__ import annotations

import json

import pytest

from orchestrator.monitor.state import SweepState
from orchestrator.search.stopped_trials import (
    BY_HAND,
    BY_SCHEDULER,
    add_stopped,
    read_stopped,
    stopped_sentence,
    stopped_tasks,
)
from orchestrator.spec.settings import Scheduler

KEY, OTHER = "train_cam-0123456789abcdef", "train_cam-fedcba9876543210"
ROWS = [{"epoch": 1.0, "val/map": 0.25, "lr": 0.1}, {"epoch": 2.0, "val/map": 0.5}, {"epoch": 3.0}]
SCHEDULER = Scheduler()


@pytest.fixture
def file(tmp_path):
    add_stopped(tmp_path / "stopped.json", SCHEDULER, KEY, ROWS)
    return tmp_path / "stopped.json"


def test_the_same_scheduler_knows_it_again_with_its_epochs(file):
    assert read_stopped(file).by(Scheduler()) == {
        KEY: [{"epoch": 1.0, "val/map": 0.25}, {"epoch": 2.0, "val/map": 0.5}]
    }


@pytest.mark.parametrize(
    "other",
    [
        None,
        Scheduler(name="median"),
        Scheduler(grace_epochs=2),
        Scheduler(reduction_factor=4),
        Scheduler(metric="val/map_image"),
        Scheduler(mode="min"),
    ],
    ids=repr,
)
def test_under_another_scheduler_or_none_it_runs_on(file, other):
    assert read_stopped(file).by(other) == {}
    if other is not None:
        add_stopped(file, other, OTHER, [])
        assert read_stopped(file).by(other) == {OTHER: []}
        assert read_stopped(file).by(SCHEDULER) == {}


def test_what_is_known_of_it_stays(file):
    add_stopped(file, SCHEDULER, KEY, [])  # told again by a later run, which has not seen its epochs
    add_stopped(file, SCHEDULER, OTHER, ROWS)
    found = read_stopped(file).by(SCHEDULER)
    assert [len(found[key]) for key in (KEY, OTHER)] == [2, 2]


@pytest.mark.parametrize(
    "content", [["old"], {"scheduler": {}}, {"scheduler": None, "trials": {}}, {"scheduler": {}, "trials": {"a": [3]}}]
)
def test_a_damaged_file_lets_trials_run(file, content, caplog):
    file.write_text(json.dumps(content))
    assert read_stopped(file).by(SCHEDULER) == {}
    assert "they run on" in caplog.text


def test_how_many_and_why_is_told_in_words(tmp_path):
    state = SweepState(tmp_path / "state.json", "s")
    for key, reason in (("a", BY_SCHEDULER), ("b", BY_SCHEDULER), ("c", BY_HAND)):
        state.add(key, f"title {key}", "trial", 3)
        state.update(key, status="stopped", error=reason)
    state.add("d", "title d", "trial", 3)
    told = stopped_sentence(stopped_tasks(state))
    assert told.startswith("3 stopped early and not ranked (2 by the scheduler")
    assert "1 by hand" in told
    assert stopped_sentence({}) == ""
