"""ControlFile from another terminal and budgets, on a clock that the test moves."""

from __future__ import annotations

import json

import pytest

from aream.errors import ConfigError, DamagedFile
from orchestrator.monitor.control_file import ControlFile
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.spec.settings import Limits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    def supervisor(**limits):
        return Supervisor(tmp_path / "orders.json", tmp_path / "spent.json", Limits(**limits), clock)

    return supervisor


def order(tmp_path, sweep="run", **trials):
    ControlFile(sweep, trials).write(tmp_path / "orders.json")


def test_orders_are_read_at_the_next_tick(make, tmp_path, clock):
    supervisor = make()
    assert supervisor.desired_state("train_cam-1") == "run"
    order(tmp_path, sweep="pause")
    assert not supervisor.tick({})  # not yet
    clock.now += 1.5
    assert supervisor.tick({})
    assert supervisor.paused
    assert supervisor.desired_state("train_cam-1") == "pause"
    order(tmp_path, **{"train_cam-1": "stop", "train_cam-2": "pause"})
    clock.now += 1.5
    supervisor.tick({})
    assert [supervisor.desired_state(f"train_cam-{n}") for n in (1, 2, 3)] == ["stop", "pause", "run"]
    assert supervisor.ending is None


def test_a_stopped_sweep_stays_stopped_and_runs_when_it_is_run_again(make, tmp_path, clock):
    supervisor = make()
    order(tmp_path, sweep="stop", **{"train_cam-1": "stop"})
    clock.now += 1.5
    supervisor.tick({})
    assert supervisor.ending == "stopped from another terminal"
    order(tmp_path)
    clock.now += 1.5
    supervisor.tick({})
    assert supervisor.is_over()
    assert supervisor.desired_state("anything") == "pause"
    order(tmp_path, sweep="stop", **{"train_cam-1": "stop"})
    again = make()
    assert again.ending is None
    assert again.desired_state("train_cam-1") == "stop"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sweep": "explode"}', '{"trials": []}', '{"trials": {"a": 1}}'])
def test_unreadable_orders_change_nothing(make, tmp_path, clock, text):
    supervisor = make()
    (tmp_path / "orders.json").write_text(text)
    clock.now += 1.5
    supervisor.tick({})
    assert supervisor.desired_state("x") == "run"
    with pytest.raises(DamagedFile, match=r"orders\.json"):
        ControlFile.read(tmp_path / "orders.json")


def test_gpu_hours_add_up_over_runs(make, tmp_path, clock):
    supervisor = make(gpu_hours=1.0)
    for _ in range(60):
        clock.now += 60.0
        supervisor.tick({"a": 0.25, "b": 0.25})
    assert supervisor.gpu_seconds == pytest.approx(1800)
    assert supervisor.ending is None
    supervisor.save()
    again = make(gpu_hours=1.0)
    clock.now += 1799.0
    again.tick({"a": 1.0})
    assert again.ending is None
    clock.now += 2.0
    again.tick({"a": 1.0})
    assert again.ending == "limits.gpu_hours: 1 GPU hours are spent, earlier runs counted; raise it"
    again.save()
    assert make(gpu_hours=1.0).budget_spent() == again.ending  # before it begins
    assert make(gpu_hours=2.0).budget_spent() is None
    assert json.loads((tmp_path / "spent.json").read_text())["gpu_seconds"] >= 1800


def test_wall_time_counts_from_the_start_of_the_run(make, clock):
    supervisor = make(wall_hours=0.5)
    clock.now += 1799
    supervisor.tick({})
    assert supervisor.ending is None
    clock.now += 2
    supervisor.tick({})
    assert supervisor.ending == "limits.wall_hours: 0.5 h have passed"


def test_failures_are_counted(make):
    supervisor = make(failures=2)
    supervisor.count_failure()
    assert supervisor.ending is None
    supervisor.count_failure()
    assert supervisor.ending == "limits.failures: 2 failed"
    unlimited = make()
    for _ in range(100):
        unlimited.count_failure()
    assert unlimited.ending is None


@pytest.mark.parametrize("limits", [{"failures": 0}, {"gpu_hours": -1.0}, {"wall_hours": 0.0}, {"retries": -1}])
def test_impossible_limits_are_refused(limits):
    with pytest.raises(ConfigError, match=next(iter(limits))):
        Limits(**limits)


def test_a_store_that_is_away_ends_a_sweep_and_fails_nothing(make):
    supervisor = make(failures=1)
    supervisor.store_away("s3://bucket: no answer for 300 s (503)")
    supervisor.store_away("another")
    assert supervisor.away == supervisor.ending == "s3://bucket: no answer for 300 s (503)"
    assert supervisor.failed == 0
    assert supervisor.desired_state("train_cam-1") == "pause"
