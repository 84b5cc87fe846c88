"""What a finished sweep leaves for people and scripts; searches that stop and go on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sweeps
from workers.artifacts.opening import open_store

pytestmark = pytest.mark.integration


def test_the_summary_is_what_scripts_read(finished):
    content = sweeps.summary(finished)
    ranking = content["ranking"]
    assert len(ranking) == 4
    scores = [entry["metrics"]["pseudo/miou"] for entry in ranking]
    assert scores == sorted(scores, reverse=True)
    for entry in ranking:
        assert entry["config"].keys() == {"method.alpha_low", "inference.layers"}
        assert entry["metrics"].keys() >= {"val/map", "cam/miou", "pseudo/miou"}
        assert entry["metrics"].keys() == entry["spread"].keys()
        assert all(0 <= entry["metrics"][name] <= 1 for name in ("val/map", "cam/miou", "pseudo/miou"))
        assert entry["seeds"] == [0]
        for key in (*entry["trial_keys"], entry["label_artifact"]):
            assert (finished / "runs/artifacts/records" / f"{key}.json").exists()
    assert 0 <= ranking[0]["metrics"]["seg/miou"] <= 1
    assert "searched on train ground truth" in content["protocol"]["threshold"]


def test_the_labels_are_indexed_pngs_with_a_palette(finished):
    key = sweeps.summary(finished)["ranking"][0]["label_artifact"]
    folder = open_store(None, finished / "runs/artifacts").get(key)
    pictures = sorted(folder.rglob("labels/*.png"))
    assert len(pictures) == 40
    with Image.open(pictures[0]) as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[3:6] == [128, 0, 0]
        assert set(np.unique(np.array(picture))) <= {*range(7), 255}


def test_the_report_needs_nothing_but_itself(finished):
    report = (finished / "runs/small/report.html").read_text()
    sources = re.findall(r"(?:src|href)=['\"]([^'\"]{0,30})", report)
    assert any(source.startswith("data:image/") for source in sources)
    assert all(source.startswith(("data:image/", "data:text/csv", "data:,", "#")) for source in sources), sources
    for entry in sweeps.summary(finished)["ranking"]:
        assert re.search(rf">{entry['metrics']['pseudo/miou']:.4f}\b", report)
    assert "| 1 |" in (finished / "runs/small/report.md").read_text()


def test_a_search_with_early_stopping_ends_and_goes_on(tmp_path):
    """With this seed it tries 1e-4 and 1e-12 first, then 1e-3 and 1e-11; who learns nothing has the higher loss."""
    stops = "scheduler: {metric: train/classification_loss, mode: min, grace_epochs: 1}\nconcurrency: 1\n"
    sweep = sweeps.write_small(tmp_path, stops)
    rates = "axes={train.lr: [1.0e-3, 1.0e-4, 1.0e-11, 1.0e-12]}"
    settings = [f"--set={text}" for text in (rates, "train.lr_floor=0", "train.epochs=12", "segmentation=null")]
    output = sweeps.run_recorded(sweep, *settings, "--set", "search={trials: 2, seed: 20}")
    assert "Last result" not in output, "Tune tells of its trials in its own words"
    first = trials(tmp_path)
    assert {rate: status for rate, (_, status) in first.items()} == {"0.0001": "done", "1e-12": "stopped"}
    assert in_mlflow(tmp_path) == {first["0.0001"][0]: "FINISHED", first["1e-12"][0]: "KILLED"}
    before = sweeps.times_run(tmp_path)
    sweeps.run_recorded(sweep, *settings, "--set", "search={trials: 4, seed: 20}")
    second = trials(tmp_path)
    new = {"0.001": (second["0.001"][0], "done"), "1e-11": (second["1e-11"][0], "stopped")}
    assert second == {**first, **new}
    after = sweeps.times_run(tmp_path)
    assert {key: after[key] for key in before} == before, "nothing of the first run is run again"
    trained = {key for key in after.keys() - before.keys() if key.startswith("train_cam")}
    assert trained == {key for key, _ in new.values()}
    assert set(after.values()) == {1}
    kept = {key: "FINISHED" if status == "done" else "KILLED" for key, status in second.values()}
    assert in_mlflow(tmp_path) == kept
    ranked = {entry["config"]["train.lr"] for entry in sweeps.summary(tmp_path)["ranking"]}
    assert ranked == {1e-3, 1e-4}


def trials(folder: Path) -> dict[str, tuple[str, str]]:
    """Learning rate -> key and status."""
    tasks = json.loads((folder / "runs" / "small" / "state.json").read_text())["tasks"]
    return {
        re.findall(r"train\.lr=([^,]+)", task["title"])[0]: (task["key"], task["status"])
        for task in tasks
        if task["kind"] == "trial"
    }


def in_mlflow(folder: Path) -> dict[str, str]:
    """Key of a trial -> status of its run."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "small"]
    runs = client.search_runs([experiment.experiment_id], "tags.`aream.kind` = 'trial'")
    return {run.data.tags["aream.trial_key"]: run.info.status for run in runs}
