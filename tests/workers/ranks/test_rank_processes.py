"""Stages of several processes, as real processes on this machine."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from small_trials import TRIAL, Killed, Work, fingerprint, with_method
from thread_ranks import check_rows_alike

from aream.errors import ConfigError, Interrupted
from workers.pipelines import training_stage
from workers.ranks.process_group import RankLost

STRAIGHT = dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, warmup_epochs=0))
"""One stage, so that processes start once: each imports torch and timm."""
ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A stage of two processes, and the digests of what it leaves."""
    stage = training_stage(STRAIGHT, fingerprint, 2)
    return stage, Work(tmp_path_factory.mktemp("undisturbed")).digests(stage)


def weights(work: Work, stage):
    work.runner.run(stage)
    return load_file(work.store.get(stage.key) / "model.safetensors")


def ranks_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "workers.rank_main" in child.cmdline()]


def gone(processes: list[psutil.Process], seconds: float = 240) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.mark.parametrize(("trial", "processes"), [(TRIAL, 2), (STRAIGHT, 3)], ids=["2, forked from a warm-up", "3"])
def test_several_processes_take_the_steps_of_one(tmp_path, trial, processes):
    """Stochastic depth and augmentation included; 4 images a batch, so parts of 3 are unequal."""
    trial = with_method(trial, alpha_low=0.3, alpha_high=0.45, affinity_weight=5.0)
    alone, several = Work(tmp_path / "alone"), Work(tmp_path / "several")
    expected = weights(alone, training_stage(trial, fingerprint))
    found = weights(several, training_stage(trial, fingerprint, processes))
    assert alone.rows[-1][1]["train/affinity_loss"] > 1e-3
    assert [name for name, _ in several.rows] == [name for name, _ in alone.rows]
    check_rows_alike([row for _, row in several.rows], [row for _, row in alone.rows])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-5)


def test_the_number_of_processes_is_part_of_the_identity_where_it_is_more_than_one():
    base, *others = (training_stage(TRIAL, fingerprint, count) for count in (1, 2, 3))
    assert base.key == training_stage(TRIAL, fingerprint).key
    assert "processes" not in base.inputs["warmup"].key
    assert len({base.key, *(stage.key for stage in others)}) == 3
    assert len({base.inputs["warmup"].key, *(stage.inputs["warmup"].key for stage in others)}) == 3


def test_a_batch_must_have_an_image_for_each_process():
    with pytest.raises(ConfigError, match=r"train\.batch_size: need an image for each of the 5 processes, got 4"):
        training_stage(TRIAL, fingerprint, 5)


class Disturbed(Work):
    """Does something to this process's ranks when a training has reported so many rows."""

    def __init__(self, folder, after: int, disturb) -> None:
        super().__init__(folder)
        self.after, self.disturb = after, disturb

    def report(self, stage, row):
        super().report(stage, row)
        if [name for name, _ in self.rows].count("train_cam") == self.after:
            self.disturb()


def kill_a_rank() -> None:
    ranks_of(psutil.Process())[0].kill()


def test_a_killed_rank_loses_no_checkpoint(tmp_path, undisturbed):
    stage, expected = undisturbed
    disturbed = Disturbed(tmp_path / "killed", 2, kill_a_rank)
    with pytest.raises(RankLost, match="process 1 ended with status -9"):
        disturbed.runner.run(stage)
    assert not list(disturbed.store.storage.list("leases/"))
    assert list(disturbed.store.storage.list("checkpoints/train_cam"))
    assert gone(ranks_of(psutil.Process()))
    again = Work(tmp_path / "killed")
    assert again.digests(stage) == expected
    assert [row["epoch"] for name, row in again.rows if name == "train_cam"] == [1, 2, 3]


def test_ranks_end_with_whatever_ends_the_first(tmp_path):
    def die():
        raise Killed

    disturbed = Disturbed(tmp_path, 1, die)
    with pytest.raises(Killed):
        disturbed.runner.run(training_stage(STRAIGHT, fingerprint, 3))
    assert ranks_of(psutil.Process()) == []
    assert not torch.distributed.is_initialized()


def test_ranks_share_the_loaders(tmp_path):
    """Of two, each has one for its train and one for its val images."""
    seen = []

    def look():
        first = psutil.Process()
        ranks = [child for child in first.children() if "workers.rank_main" in child.cmdline()]
        for rank in (first, *ranks):
            seen.append(sum(child.cmdline() == rank.cmdline() for child in rank.children()))

    work = Disturbed(tmp_path, 1, look)
    work.runner.runtime = dataclasses.replace(work.runner.runtime, loader_workers=2)
    work.runner.run(training_stage(STRAIGHT, fingerprint, 2))
    assert seen == [2, 2]


def test_a_stop_reaches_all_ranks(tmp_path, undisturbed):
    stage, expected = undisturbed
    stopped = Work(tmp_path / "stopped")
    asked = iter([False] * 4)
    stopped.runner.stop = lambda: next(asked, True)
    with pytest.raises(Interrupted):
        stopped.runner.run(stage)
    assert ranks_of(psutil.Process()) == []
    assert not list(stopped.store.storage.list("leases/"))
    assert Work(tmp_path / "stopped").digests(stage) == expected


def test_an_error_is_told_with_the_images_of_all_ranks(tmp_path):
    trial = dataclasses.replace(STRAIGHT, train=dataclasses.replace(STRAIGHT.train, lr=1e30, lr_floor=0.0))
    with pytest.raises(Exception, match=r"train_cam-\w+: .*not finite in epoch") as caught:
        Work(tmp_path).runner.run(training_stage(trial, fingerprint, 2))
    assert type(caught.value).__name__ == "StageFailed"
    assert ranks_of(psutil.Process()) == []


def test_ranks_end_when_the_first_is_killed(tmp_path):
    """A program of its own, killed while it trains: nobody else tells its children."""
    program = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "support")!r}]
        from small_trials import TRIAL, Work, fingerprint
        from workers.pipelines import training_stage
        import dataclasses, pathlib
        trial = dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, epochs=10_000, warmup_epochs=0))
        work = Work(pathlib.Path({str(tmp_path)!r}))
        work.runner.report = lambda stage, row: print(stage.name, flush=True)
        work.runner.run(training_stage(trial, fingerprint, 2))
    """
    first = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert any("train_cam" in line for line in first.stdout)
        ranks = ranks_of(psutil.Process(first.pid))
        assert len(ranks) == 1
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    assert gone(ranks)


def test_nothing_listens_beyond_this_machine(tmp_path):
    seen = []

    def look():
        for process in [psutil.Process(), *ranks_of(psutil.Process())]:
            seen.extend(c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN)

    Disturbed(tmp_path, 1, look).runner.run(training_stage(STRAIGHT, fingerprint, 2))
    assert seen
    assert set(seen) <= {"127.0.0.1", "::1"}


def test_a_rank_that_does_not_start_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken" / "workers").mkdir(parents=True)
    (tmp_path / "broken" / "workers" / "__init__.py").write_text("raise SystemExit('no such library')")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "broken"), *sys.path])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RankLost, match=r"process 1 of this training did not start.*no such library"):
        Work(tmp_path / "work").runner.run(training_stage(STRAIGHT, fingerprint, 2))


def test_a_rank_forks_loaders_while_it_listens_for_its_end():
    program = """
        import multiprocessing, os, time
        from workers.processes.background import begin
        from workers.rank_main import _end_with_parent
        begin("parent", _end_with_parent)
        time.sleep(1)
        loader = multiprocessing.get_context("fork").Process(target=print, args=("loaded",))
        loader.start()
        loader.join(60)
        print(loader.exitcode, flush=True)
        loader.kill()
        time.sleep(600)
    """
    rank = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with rank:
        assert rank.stdout.readline() == "loaded\n"
        assert rank.stdout.readline() == "0\n"
        rank.stdin.close()
        assert rank.wait() == 1


@pytest.mark.slow
def test_a_first_rank_that_hears_of_nothing_is_ended(tmp_path):
    """As in a GPU's queue: it waits where no broken connection wakes it."""
    program = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "support")!r}]
        import pathlib, time, psutil
        from small_trials import TRIAL, fingerprint, Work
        from workers.ranks import launcher
        from workers.pipelines import training_stage
        launcher.GRACE_S = 2.0
        work = Work(pathlib.Path({str(tmp_path)!r}))
        def hang(stage, row):
            for child in psutil.Process().children(recursive=True):
                if "workers.rank_main" in child.cmdline():
                    child.kill()
            time.sleep(600)
        work.runner.report = hang
        work.runner.run(training_stage(TRIAL, fingerprint, 2))
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=300, env=dict(os.environ))
    assert ended.returncode == -signal.SIGKILL
