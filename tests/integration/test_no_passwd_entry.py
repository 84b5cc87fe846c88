"""A user whom no passwd file knows, as ``docker run --user 54321`` and OpenShift make one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UID = 54321
RECORD = """
import pathlib, sys, mlflow
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.tracker import Tracker
folder = pathlib.Path(sys.argv[1])
tracker = Tracker(MlflowBackend(f"sqlite:///{folder}/ml.db", "exp"), "id", folder / "spool")
tracker.start_run("sweep", name="n")
tracker.end_run("sweep", "FINISHED")
assert tracker.close(240) == 0, tracker.problem
(run,) = mlflow.MlflowClient(f"sqlite:///{folder}/ml.db").search_runs(["1"])
print(run.info.status, run.data.tags["mlflow.user"])
"""
SWEEP = "name: s\ndata: {name: shapes, image_size: 32, train_images: 4, val_images: 2}\n"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
]


@pytest.fixture
def own(tmp_path) -> Path:
    """A folder of that user's, which is no home that a passwd file names."""
    folder = tmp_path / "own"
    folder.mkdir()
    os.chown(folder, UID, UID)
    for path in tmp_path.parents:
        if path != Path("/") and path.stat().st_uid == 0 and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    return folder


def nameless(own: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *rights]
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }  # fmt: skip
    return subprocess.run(
        [*become, sys.executable, *arguments], cwd=own, env=environment, capture_output=True, text=True, timeout=280
    )


def test_such_a_user_records(own):
    done = nameless(own, "-W", "ignore", "-c", RECORD, str(own), HOME=str(own))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["FINISHED", "user", str(UID)]


@pytest.mark.parametrize("variables", [{"HOME": "/nowhere"}, {}], ids=["a home that is none", "no home"])
def test_such_a_user_plans_and_is_told_in_one_line(variables, own):
    (own / "s.yaml").write_text(SWEEP)
    done = nameless(own, "-m", "orchestrator.sweep", "s.yaml", "--plan", **variables)
    assert done.returncode == 0, done.stderr
    assert "4 stages" in done.stdout
    assert "Traceback" not in done.stderr
    done = nameless(own, "-m", "orchestrator.status", "s.yaml", **variables)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    done = nameless(own, "-m", "orchestrator.artifacts", "--runs", "~/runs", "ls", **variables)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
