"""A sweep whose experiment somebody deleted in MLflow: told before anything is trained, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweeps

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::Warning"),
    pytest.mark.usefixtures("on_a_cluster"),
]


def tracked(folder: Path):
    """MLflow's client, and the id of the sweep's experiment."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    return client, client.get_experiment_by_name("small").experiment_id


def restore(said: str) -> None:
    """By the command that the message names."""
    (shown,) = [part for part in said.split("`") if "mlflow experiments" in part]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["bash", "-c", shown], env={**os.environ, "PATH": path}, check=True, capture_output=True)


def kinds(folder: Path) -> list[str]:
    client, own = tracked(folder)
    return sorted(run.data.tags["aream.kind"] for run in client.search_runs([own]))


def test_a_deleted_experiment_is_told_first_and_nothing_is_lost(tmp_path):
    sweep = sweeps.write_small(tmp_path)
    sweep.write_text(sweep.read_text().partition("segmentation:")[0].replace("[0.25, 0.35]", "[0.25]"))
    sweeps.run_recorded(sweep)
    before, spool = kinds(tmp_path), tmp_path / "runs" / "small" / "tracking"
    client, own = tracked(tmp_path)
    client.delete_experiment(own)
    sweep.write_text(sweep.read_text().replace("[0.25]", "[0.25, 0.35]"))
    files = {path: path.read_bytes() for path in spool.rglob("*") if path.is_file()}
    for flags in (["--plan"], []):
        said = sweeps.run(sweep, *flags, expect=2)
        assert "was deleted" in said
        assert "trial running" not in said
        assert "Traceback" not in said
    assert {path: path.read_bytes() for path in spool.rglob("*") if path.is_file()} == files
    restore(said)
    sweeps.run_recorded(sweep)
    assert len(kinds(tmp_path)) > len(before)
    assert len(sweeps.summary(tmp_path)["ranking"]) == 4


def test_an_experiment_deleted_while_the_sweep_trains_leaves_its_rows_on_disk(tmp_path):
    sweep = sweeps.write_small(tmp_path)
    sweep.write_text(sweep.read_text().partition("segmentation:")[0])
    with sweeps.started(sweep) as process:
        sweeps.read_until(process, "trial running epoch 2/5")
        client, own = tracked(tmp_path)
        client.delete_experiment(own)
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 2, said
    assert "events wait in" in said
    assert len(sweeps.summary(tmp_path)["ranking"]) == 4  # all was trained, ranked and stored
    client.restore_experiment(own)
    sweeps.run_recorded(sweep)
    statuses = {run.info.status for run in client.search_runs([own])}
    assert statuses == {"FINISHED"}
    assert kinds(tmp_path).count("trial") == 2
