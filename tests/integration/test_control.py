"""A running sweep steered from another terminal, by signals, budgets and faults: real processes, equal results."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from receiver import Messages, receiving

import sweeps
from workers.artifacts.opening import open_store

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("on_a_cluster")]
NOTIFY = "{webhook_env: AREAM_WEBHOOK, events: [done, failed, stalled, stopped]}"


def write_sweep(folder) -> Path:
    """Trials and nothing after them, long enough for an order to arrive in the middle of one; where a webhook listens
    (``told``), it is told."""
    sweep = sweeps.write_small(folder)
    text = sweep.read_text().partition("segmentation:")[0]
    sweep.write_text(text.replace("  epochs: 5\n", "  epochs: 15\n", 1))
    return sweeps.changed(sweep, notify=NOTIFY) if "AREAM_WEBHOOK" in os.environ else sweep


@pytest.fixture
def told(monkeypatch) -> Iterator[Messages]:
    """What the webhook was told."""
    with receiving() as (url, messages):
        monkeypatch.setenv("AREAM_WEBHOOK", url)
        yield messages


def events(told: Messages) -> list[str]:
    assert {message["sweep"] for message in told} == {"small"}
    return [message["event"] for message in told]


@pytest.fixture(scope="module")
def undisturbed(on_a_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    sweeps.run(write_sweep(folder))
    return sweeps.results(folder)


def wait_for(sweep, text: str, timeout_s: float = 240) -> str:
    until = time.monotonic() + timeout_s
    while text not in (shown := sweeps.status(sweep)):
        assert time.monotonic() < until, shown
    return shown


def test_paused_and_resumed_from_another_terminal(undisturbed, tmp_path):
    sweep = write_sweep(tmp_path)
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 2/15")
        with sweeps.standing_still(tmp_path, after_s=sweeps.HEARD_S):
            sweeps.control(sweep, "pause")
        wait_for(sweep, "paused")
        # Its slots are free: nothing trains.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        sweeps.control(sweep, "resume")
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "trial paused" in output
    assert sweeps.results(tmp_path) == undisturbed


def test_shared_stages_that_wait_for_a_slot_are_not_said_to_run(tmp_path):
    """What runs is what GPU-hours are counted for."""
    sweep = sweeps.changed(sweeps.write_small(tmp_path), seeds="[0, 1, 2, 3, 4]")
    text = sweep.read_text().partition("segmentation:")[0] + "seeds: [0, 1, 2, 3, 4]\n"
    # A stage takes some seconds on a fast machine: one of less than a second is only seen when it is done.
    sweep.write_text(text.replace("warmup_epochs: 1", "warmup_epochs: 120").replace("epochs: 5", "epochs: 121"))
    sweeps.run(sweep)
    state = json.loads((tmp_path / "runs" / "small" / "state.json").read_text())
    spans = [(task["started"], task["ended"]) for task in state["tasks"] if task["kind"] == "shared stage"]
    assert len(spans) == 5
    # The driver looks once a second.
    surely = [(started + 1.5, ended - 1.5) for started, ended in spans]
    assert max(started for started, _ in spans) - min(started for started, _ in spans) > 3
    for moment, _ in surely:
        assert sum(began <= moment < ended for began, ended in surely) <= sweeps.CLUSTER_CPUS


def test_stopped_from_another_terminal_and_run_again(undisturbed, tmp_path, told):
    sweep = write_sweep(tmp_path)
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 2/15")
        with sweeps.standing_still(tmp_path, after_s=sweeps.HEARD_S):
            sweeps.control(sweep, "stop")
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "stopped from another terminal; run the same command again to go on" in output
    assert events(told) == ["stopped"]
    assert told[0]["text"] == "small: ended early: stopped from another terminal"
    sweeps.run(sweep)
    assert sweeps.results(tmp_path) == undisturbed
    assert events(told) == ["stopped", "done"]
    assert told[1]["text"] == "small: finished, 0 failed"
    assert told[1]["counts"].keys() == {"done"}


def test_one_trial_stopped_is_left_out_until_it_is_resumed(undisturbed, tmp_path):
    sweep = write_sweep(tmp_path)
    plan = sweeps.planned(sweep)
    key, title = plan["trials"][0]["key"], "method.alpha_low=0.25, seed=0"
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, f"trial running epoch 1/15  {title}")
        with sweeps.standing_still(tmp_path, key, after_s=sweeps.HEARD_S):
            sweeps.control(sweep, "stop", "--trial", key)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert key not in {k for entry in sweeps.summary(tmp_path)["ranking"] for k in entry["trial_keys"]}
    sweeps.control(sweep, "resume", "--trial", key)
    sweeps.run(sweep)
    assert sweeps.results(tmp_path) == undisturbed


def test_a_trial_that_is_paused_and_then_stopped_has_not_failed(tmp_path, told):
    sweep = write_sweep(tmp_path)
    key, title = sweeps.planned(sweep)["trials"][0]["key"], "method.alpha_low=0.25, seed=0"
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, f"trial running epoch 1/15  {title}")
        with sweeps.standing_still(tmp_path, key, after_s=sweeps.HEARD_S):
            sweeps.control(sweep, "pause", "--trial", key)
        wait_for(sweep, "paused")
        sweeps.control(sweep, "stop", "--trial", key)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert events(told) == ["done"]
    assert told[-1]["counts"]["stopped"] == 1


def test_a_frozen_worker_is_killed_and_its_trial_goes_on(undisturbed, tmp_path, told):
    sweep = sweeps.changed(write_sweep(tmp_path), limits="{stalled_minutes: 0.3}")
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 2/15")
        with sweeps.standing_still(tmp_path):
            output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    key = re.findall(r"(train_cam-\w+) shows no sign of work", output)[0]
    assert sweeps.results(tmp_path) == undisturbed
    assert set(events(told)[:-1]) == {"stalled"}
    assert told[0]["text"] == f"small: {key} stalled"
    assert told[-1]["event"] == "done"


def test_a_second_driver_says_who_holds_the_sweep(tmp_path, told):
    sweep = write_sweep(tmp_path)
    with sweeps.started(sweep) as process:
        with sweeps.standing_still(tmp_path):
            assert f"another process runs this sweep (pid {process.pid}" in sweeps.run(sweep, expect=2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
    assert events(told) == ["stopped"]
    assert told[0]["text"] == "small: interrupted"


def test_two_sweeps_that_need_the_same_stages_compute_each_once(undisturbed, tmp_path):
    """Two drivers with folders of their own and one store, started together."""
    folders = [tmp_path / "one", tmp_path / "two"]
    processes = []
    for folder in folders:
        folder.mkdir()
        sweep = sweeps.changed(write_sweep(folder), store=f"{{uri: {tmp_path / 'store'}}}")
        processes.append(sweeps.launched(sweep))
    for process in processes:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    assert set(sweeps.times_run(*folders).values()) == {1}
    for folder in folders:
        assert sweeps.ranking(folder) == undisturbed[0]
    assert not list((tmp_path / "store" / "leases").rglob("*.*"))


def test_a_diverged_trial_fails_with_its_step_and_the_others_go_on(tmp_path, told):
    sweep = write_sweep(tmp_path)
    sweep.write_text(sweep.read_text().replace("  method.alpha_low: [0.25, 0.35]", "  train.lr: [1e-3, 1e30]"))
    output = sweeps.run(sweep, expect=1)
    assert "loss is not finite in epoch" in output
    assert "images: train_" in output
    assert {entry["config"]["train.lr"] for entry in sweeps.summary(tmp_path)["ranking"]} == {1e-3}
    assert "1 failed" in sweeps.status(sweep)
    assert events(told) == ["failed", "done"]
    assert re.match(r"small: train\.lr=1e\+30, seed=0 failed: train_cam-\w+: loss is not finite", told[0]["text"])
    assert told[1]["text"] == "small: finished, 1 failed"


def test_a_segmentation_that_diverges_is_told(tmp_path, told):
    sweep = sweeps.changed(sweeps.write_small(tmp_path), notify=NOTIFY)
    sweep.write_text(sweep.read_text().replace("lr: 0.01", "lr: 1e30"))
    sweeps.run(sweep, expect=1)
    assert events(told) == ["failed", "done"]
    assert re.match(r"small: \S+ failed: .*not finite", told[0]["text"])


@pytest.mark.parametrize("what", ["shared stages", "trials"])
def test_a_sweep_that_waits_for_nodes_is_told_and_can_be_stopped(tmp_path, told, what):
    sweep = sweeps.changed(write_sweep(tmp_path), resources="{autoscaling: true, trial: {custom: {h100: 1}}}")
    if what == "trials":
        sweep.write_text(sweep.read_text().replace("  method.alpha_low: [0.25, 0.35]", "  train.lr: [1e-3, 1e-4]"))
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "waiting for resources: need CPU 1, h100 1 on one node")
        until = time.monotonic() + 120
        while not told:
            assert time.monotonic() < until
            time.sleep(0.1)
        sweeps.control(sweep, "stop")
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert events(told) == ["stalled", "stopped"]
    assert told[0]["text"].startswith("small: waiting for resources: need CPU 1, h100 1 on one node")


def test_a_budget_of_failures_ends_the_sweep(tmp_path):
    sweep = sweeps.changed(write_sweep(tmp_path), concurrency="1")
    sweep.write_text(sweep.read_text().replace("  method.alpha_low: [0.25, 0.35]", "  train.lr: [1e30, 1e-3]"))
    output = sweeps.run(sweep, "--fail-fast", expect=1)
    assert "limits.failures: 1 failed" in output
    assert sweeps.summary(tmp_path)["ranking"] == []
    sweeps.run(sweep, expect=1)
    assert len(sweeps.summary(tmp_path)["ranking"]) == 2


def test_a_budget_of_wall_time_ends_the_sweep_in_mid_training(tmp_path, told):
    """Epochs of seconds; how long it takes to come so far is the machine's."""
    sweep = write_sweep(tmp_path)
    sweep.write_text(sweep.read_text().replace("train_images: 40", "train_images: 600"))
    runs = tmp_path / "runs"
    for seconds in (20, 30, 45, 68, 101):
        sweeps.changed(sweep, limits=f"{{wall_hours: {seconds / 3600}}}")
        assert "limits.wall_hours" in sweeps.run(sweep, expect=130)
        assert "limits.wall_hours" in told[-1]["text"]
        tasks = json.loads((runs / "small" / "state.json").read_text())["tasks"]
        if begun := [task for task in tasks if task["kind"] == "trial" and 1 < task["epoch"] < 15]:
            break
    assert begun
    assert {task["status"] for task in begun} <= {"waiting", "paused"}
    assert list((runs / "artifacts" / "checkpoints").glob("train_cam*"))
    stored, before = set(open_store(None, runs / "artifacts").keys()), sweeps.times_run(tmp_path)
    assert any(key.startswith("warmup") for key in stored)
    assert not any(task["key"] in stored for task in begun)
    sweeps.run(sweeps.changed(sweep, limits="{}"))
    after = sweeps.times_run(tmp_path)
    assert {key: after[key] for key in stored} == {key: before[key] for key in stored} == dict.fromkeys(stored, 1)
    assert all(after[task["key"]] == before[task["key"]] + 1 for task in begun)
    assert len(sweeps.summary(tmp_path)["ranking"]) == 4
    assert set(events(told)[:-1]) == {"stopped"}
    assert told[-1]["event"] == "done"


def test_values_added_to_a_finished_sweep_run_alone(tmp_path):
    sweep = write_sweep(tmp_path)
    sweeps.run(sweep)
    before = sweeps.times_run(tmp_path)
    sweep.write_text(sweep.read_text().replace("[0.25, 0.35]", "[0.25, 0.3, 0.35]"))
    sweeps.run(sweep)
    fresh = {key: count - before.get(key, 0) for key, count in sweeps.times_run(tmp_path).items()}
    fresh = {key for key, count in fresh.items() if count}
    assert sum(key.startswith("train_cam") for key in fresh) == 1
    assert not any(key.startswith("warmup") for key in fresh)
    assert len(sweeps.summary(tmp_path)["ranking"]) == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("full", ["store", "runs"])
def test_a_full_disk(undisturbed, tmp_path, full):
    """Of the store alone; or of all that a sweep writes, its state, logs and MLflow's database too."""
    disk = tmp_path / ("runs" if full == "runs" else "disk")
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let tests mount a disk")
    try:
        sweep = write_sweep(tmp_path)
        if full == "store":
            sweeps.changed(sweep, store=f"{{uri: {disk / 'store'}}}")
        with sweeps.started(sweep) as process:
            sweeps.read_until(process, "trial running epoch 2/15")
            filler = fill(disk)
            output, _ = process.communicate(timeout=300)
        assert process.returncode in (1, 130), output  # trials that failed, or paused ones and nothing else to run
        assert "No space left on device" in output
        assert "Traceback" not in output
        filler.unlink()
        sweeps.run(sweep)
        assert sweeps.ranking(tmp_path) == undisturbed[0]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is, as somebody else's job would."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    return filler
