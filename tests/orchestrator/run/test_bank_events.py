"""What the trials of a bank are told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.run.banks import BankLife
from orchestrator.run.stage_tasks import TaskEvent


class Told:
    def __init__(self):
        self.events = []

    def started(self, trial):
        self.events.append((trial.key, "started"))

    def row(self, trial, row):
        self.events.append((trial.key, row))

    def waits(self, trial, status, reason):
        self.events.append((trial.key, status, reason))


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def life(told):
    return BankLife(told, [[SimpleNamespace(key=key) for key in group] for group in ("ab", "cd")])


def event(key, status, **more):
    return TaskEvent(SimpleNamespace(key=key), status, **more)


def test_a_row_is_told_of_its_own_trial(life, told):
    life.on_event(event("b", "running", row={"epoch": 1.0}))
    assert told.events == [("b", {"epoch": 1.0})]


def test_all_of_a_bank_begin_with_it(life, told):
    life.on_event(event("c", "running"))
    assert told.events == [("c", "started"), ("d", "started")]


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        ("done", None, ("waiting", None)),  # for the trial, which does the rest
        ("failed", "failed 4 times", ("waiting", None)),
        ("paused", "no store", ("paused", "no store")),
        ("waiting", "lost; try 2 of 4 follows", ("waiting", "lost; try 2 of 4 follows")),
    ],
)
def test_all_of_a_bank_wait_where_it_ends(life, told, status, error, expected):
    life.on_event(event("a", status, error=error))
    assert told.events == [("a", *expected), ("b", *expected)]
