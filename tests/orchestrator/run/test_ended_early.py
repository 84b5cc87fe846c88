"""Runs that end before their work is done say so: by their exit status, and not as finished."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from aream.errors import StoreUnavailable
from orchestrator import sweep
from orchestrator.console import command as entry
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.run import tuning
from orchestrator.run.tune_callback import NodeUnreachable
from orchestrator.search.stopped_trials import Seen
from orchestrator.spec.settings import Limits, Resources

ROOT = Path(__file__).resolve().parents[3]
SWEEP = """
name: early
runs: {runs}
data: {{name: shapes, image_size: 32, train_images: 2, val_images: 2}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2}}
train: {{epochs: 1, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32}}
"""


@pytest.fixture
def run(tmp_path):
    def run(runs) -> int:
        path = tmp_path / "sweep.yaml"
        path.write_text(SWEEP.format(runs=runs))
        return sweep.main([str(path)])

    return run


def test_a_store_that_is_gone_can_be_gone_on_with(run, tmp_path, monkeypatch, capsys):
    def driven(prepared, options):
        raise StoreUnavailable("s3://bucket: no answer for 300 s (503)")

    monkeypatch.setattr(sweep, "_run", driven)
    assert run(tmp_path / "runs") == entry.INTERRUPTED
    told = capsys.readouterr().err
    assert "s3://bucket: no answer for 300 s (503)" in told
    assert "run the same command again" in told


@pytest.mark.parametrize("kind", ["a file", "no such device"])
def test_a_folder_that_cannot_be_written_is_named_by_its_key(run, tmp_path, capsys, kind):
    (tmp_path / "file").write_text("")
    runs = tmp_path / "file" / "runs" if kind == "a file" else "/proc/none"
    assert run(runs) == entry.REFUSED
    assert f"runs: {runs}/early cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("silent", [1, tuning.TRIES_AFTER_STALLS])
def test_nodes_that_keep_falling_silent_end_the_sweep_as_unfinished(tmp_path, monkeypatch, silent):
    supervisor = Supervisor(tmp_path / "orders.json", tmp_path / "spent.json", Limits())
    tries, seen, stopped = [], [], []

    def fit(*args, **kwargs):
        tries.append(kwargs["listed"])
        seen.append([one.rows for one in kwargs["seen"]])
        stopped.append(kwargs["stopped"])
        kwargs["over"].update(lost="failed", bad="stopped")
        if len(tries) <= silent:
            raise NodeUnreachable("train_cam-0123456789abcdef")

    monkeypatch.setattr(tuning, "_fit", fit)
    stored = SimpleNamespace(
        has=lambda key: key == "done", record=lambda key: SimpleNamespace(history=[{"epoch": 1.0}])
    )
    trials = [
        SimpleNamespace(key=key, values={}, seed=0, stages=lambda key=key: [SimpleNamespace(key=key)])
        for key in ("done", "left", "lost", "bad")
    ]
    workspace = SimpleNamespace(store=lambda: stored)
    planner = SimpleNamespace(spec=SimpleNamespace(resources=Resources()))
    known = [Seen({}, 1, [{"epoch": 2.0}])]
    listener = SimpleNamespace(seen_stopped=lambda: known)
    tuning.run_trials(planner, workspace, listener, supervisor, None, listed=trials)
    assert tries[0] == trials
    assert all(again == trials[1:2] for again in tries[1:])  # what failed or was stopped is not taken up again
    assert stopped == [set(), *[{"bad"}] * (len(tries) - 1)]
    # A scheduler judges by what has ended, and by what the one before it stopped.
    assert all(rows[:2] == [[{"epoch": 1.0}], [{"epoch": 2.0}]] for rows in seen[1:])
    assert supervisor.is_over() is (silent == tuning.TRIES_AFTER_STALLS)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_log_on_a_full_disk_says_nothing(tmp_path, capfd):
    import logging

    from orchestrator.workspace import Workspace

    workspace = Workspace(store_uri=None, runs=tmp_path, name="full")
    workspace.log_folder.mkdir(parents=True)
    workspace.log_file("sweep").symlink_to("/dev/full")
    with workspace.logged("sweep"):
        for _ in range(3):
            logging.getLogger("orchestrator.x").warning("a line")
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_budget_that_is_spent_already_starts_no_ray(tmp_path):
    (tmp_path / "runs" / "early").mkdir(parents=True)
    (tmp_path / "runs" / "early" / "spent.json").write_text('{"gpu_seconds": 3601.0}')
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(runs=tmp_path / "runs") + "limits: {gpu_hours: 1}\n")
    script = (
        "import sys; from orchestrator.sweep import main; "
        "status = main(sys.argv[1:]); assert 'ray' not in sys.modules; sys.exit(status)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "sweep.yaml")], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == entry.INTERRUPTED, ended.stderr
    assert "1 GPU hours are spent, earlier runs counted; raise it" in ended.stderr
