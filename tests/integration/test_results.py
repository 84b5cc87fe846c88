"""What a finished sweep leaves for people and scripts; searches that stop and go on."""

from __future__ import annotations

import re

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
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for entry in sweeps.summary(finished)["ranking"]:
        assert f"<td>{entry['metrics']['pseudo/miou']:.4f}</td>" in report
    assert "| 1 |" in (finished / "runs/small/report.md").read_text()


def test_a_search_with_early_stopping_ends_and_goes_on(tmp_path):
    sweep = sweeps.write_small(tmp_path, "scheduler: {grace_epochs: 2}\nsearch: {trials: 3, seed: 1}\n")
    axes = "axes={method.alpha_low: {uniform: [0.2, 0.5]}, train.lr: {loguniform: [1e-5, 1e-2]}}"
    output = sweeps.run(sweep, "--set", axes)
    assert "Last result" not in output, "Tune tells of its trials in its own words"
    first = sweeps.summary(tmp_path)["ranking"]
    assert 1 <= len(first) <= 3
    sweeps.run(sweep, "--set", axes, "--set", "search={trials: 5, seed: 1}")
    second = sweeps.summary(tmp_path)["ranking"]
    assert len(second) >= len(first)
    known = {entry["trial_keys"][0]: entry["metrics"]["pseudo/miou"] for entry in second}
    assert all(known[entry["trial_keys"][0]] == entry["metrics"]["pseudo/miou"] for entry in first)
