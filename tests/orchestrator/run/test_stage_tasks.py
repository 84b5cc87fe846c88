"""What the driver makes of signs of life, without Ray answering."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from orchestrator.monitor.supervisor import Supervisor
from orchestrator.run.channel import Heartbeat
from orchestrator.run.stage_tasks import StageTasks, TaskEvent, _Attempt
from orchestrator.spec.settings import Limits, Resource
from orchestrator.workspace import Workspace

KEY = "train_seg-0123456789abcdef"
HOUR_S = 3600.0


@pytest.fixture
def tasks(tmp_path):
    told: list[TaskEvent] = []
    stage = SimpleNamespace(key=KEY, ancestry=lambda: [stage])
    limits = Limits(stalled_minutes=30.0, retries=0)
    supervisor = Supervisor(tmp_path / "orders.json", tmp_path / "spent.json", limits)
    made = StageTasks(
        [stage], Workspace(None, tmp_path, "s"), Resource(), limits, supervisor, told.append, told.append, told.append,
        SimpleNamespace(actor=None),
    )  # fmt: skip
    made.waiting.clear()
    made.told = told
    made.asked = lambda seconds: made.running.update(task=_Attempt(stage, time.monotonic() - seconds))
    return made


def test_a_try_that_waits_for_a_slot_is_not_stalled_since_the_worker_of_the_one_before_was_lost(tasks):
    tasks.asked(60.0)
    tasks._reconcile({KEY: Heartbeat("a node", "a process", silent_s=2 * HOUR_S)})
    assert list(tasks.running) == ["task"]
    assert (tasks.told, tasks.errors, tasks.lost) == ([], {}, {})


def test_a_worker_without_a_sign_since_long_is_stalled(tasks, monkeypatch):
    monkeypatch.setattr("orchestrator.run.stage_tasks.kill_worker", lambda sign: True)
    tasks.asked(2 * HOUR_S)
    tasks._reconcile({KEY: Heartbeat("a node", "a process", silent_s=HOUR_S)})
    assert not tasks.running
    assert tasks.errors == {KEY: "no sign of life for 3600 s"}
