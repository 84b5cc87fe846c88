"""A sweep of weights as they are, to a segmenter."""

from __future__ import annotations

import json

import pytest
from small_sweep import write_sweep

import sweeps
from orchestrator import api
from workers.components import WEIGHTS_FILE

pytestmark = pytest.mark.integration


def test_from_weights_to_a_segmenter_without_a_training_of_the_host(tmp_path):
    first = api.load(write_sweep(tmp_path))
    rows, made = api.run_trial(first, {}), api.plan(first)
    weights = made.prepared.workspace.store().get(made.trials[0].key) / WEIGHTS_FILE
    path = write_sweep(
        tmp_path,
        name="given",
        train={"epochs": 0},
        backbone={"weights": str(weights)},
        tracking="tensorboard",
        segmentation={
            "model": {"encoder": "resnet10t", "output_stride": None, "level": 1, "rates": [1], "channels": 16},
            "train": {"epochs": 1, "batch_size": 4, "lr": 0.01, "crop": 32},
            "evaluate": {"scales": [1.0]},
        },
    )
    sweeps.run(path)
    content = json.loads((tmp_path / "runs/given/summary.json").read_text())
    assert content["failures"] == content["unranked"] == {}
    found = {entry["config"]["inference.layers"]: entry["metrics"] for entry in content["ranking"]}
    for layers, miou, kept in rows[["inference.layers", "pseudo/miou", "val/map"]].itertuples(index=False):
        assert (found[layers]["pseudo/miou"], found[layers]["val/map"]) == (miou, kept)
    (job,) = content["segmentation"]
    assert 0 <= job["metrics"]["seg/miou"] <= 1
    assert (tmp_path / "runs/given/report.html").exists()
