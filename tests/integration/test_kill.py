"""SIGKILL in mid-training, then the same command: the result is that of a run that was never killed."""

from __future__ import annotations

import signal

import pytest

import sweeps

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("on_a_cluster")]


@pytest.fixture
def undisturbed(finished):
    return sweeps.results(finished)


def test_two_runs_of_one_seed_give_the_same_labels(undisturbed, tmp_path):
    sweeps.run(sweeps.write_small(tmp_path))
    assert sweeps.results(tmp_path) == undisturbed
    assert all(len(files) > 40 for files in undisturbed[1].values())


def test_driver_killed_in_mid_training(undisturbed, tmp_path):
    sweep = sweeps.write_small(tmp_path)
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 3/5")
        sweeps.kill(process.pid)
        process.wait()
    assert not (tmp_path / "runs" / "small" / "summary.json").exists()
    sweeps.run(sweep)
    assert sweeps.results(tmp_path) == undisturbed


def test_worker_killed_in_mid_training(undisturbed, tmp_path):
    with sweeps.started(sweeps.write_small(tmp_path)) as process:
        sweeps.read_until(process, "trial running epoch 1/5")
        sweeps.kill(sweeps.training_process(tmp_path))
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert sweeps.results(tmp_path) == undisturbed


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_says_so_and_resumes(undisturbed, tmp_path, sent):
    sweep = sweeps.write_small(tmp_path)
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 2/5")
        process.send_signal(sent)
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert "run the same command again to go on" in output
    assert "interrupted" in sweeps.status(sweep)
    sweeps.run(sweep)
    assert sweeps.results(tmp_path) == undisturbed


def test_a_second_run_finds_everything_done(tmp_path):
    sweep = sweeps.write_small(tmp_path)
    sweeps.run(sweep)
    first = sweeps.results(tmp_path)
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/artifacts/records").iterdir()}
    output = sweeps.run(sweep)
    assert "trial running epoch" not in output
    assert sweeps.results(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs/artifacts/records").iterdir()} == records
