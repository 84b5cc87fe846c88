"""A sweep whose trials train in banks finds what it finds without."""

from __future__ import annotations

import json

import pytest

from sweeps import results, run, write_small
from workers.artifacts.opening import open_store

pytestmark = pytest.mark.integration
THREE = (
    "--set=axes={method.alpha_low: [0.15, 0.25, 0.35], inference.layers: [all, shallow]}",
    "--set=segmentation=null",
    "--set=train.epochs=3",
    "--set=tracking={name: none}",
)


@pytest.mark.parametrize(("bank", "in_one"), [(3, 3), ("auto", 2)])  # there are two places
def test_banks_have_the_results_of_trials_by_themselves(bank, in_one, tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    for folder, most in ((together, bank), (alone, 1)):
        folder.mkdir()
        run(write_small(folder), *THREE, f"--set=resources.trial.bank={most}")
    assert results(together) == results(alone)
    logs = [path.read_text() for path in together.glob("runs/small/logs/*.log")]
    lines = [line for log in logs for line in log.splitlines() if "running train_cam-" in line]
    store = open_store(None, together / "runs" / "artifacts")
    trainings = {key for key in store.keys() if key.startswith("train_cam-")}
    assert len(trainings) == 3
    assert max(sum(key in line for key in trainings) for line in lines) == in_one
    tasks = json.loads((together / "runs" / "small" / "state.json").read_text())["tasks"]
    trials = [task for task in tasks if task["kind"] == "trial"]
    assert {task["key"] for task in trials} == trainings
    assert {task["status"] for task in trials} == {"done"}
    histories = [store.record(key).history for key in trainings]
    assert all([row["epoch"] for row in history] == [1.0, 2.0, 3.0] for history in histories)
