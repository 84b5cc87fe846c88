"""Labels of images that have no mask: made by a rule that needs none, and without any figure."""

from __future__ import annotations

import dataclasses
import json

import pytest
from small_trials import TRIAL, fingerprint
from small_voc import write_voc

from aream.config import Component
from aream.datasets import voc2012
from aream.errors import StageFailed
from aream.labels.pseudo_labels import LabelsConfig
from workers.artifacts.opening import open_store
from workers.pipelines import variant_stages
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner
from workers.trial import TrialConfig


@pytest.fixture
def trial(tmp_path):
    root = write_voc(tmp_path / "VOC2012", train=4, val=2)
    for path in (root / "SegmentationClass").glob("2007_*.png"):
        path.unlink()
    data = Component(name="voc2012", config=voc2012.Config(root=str(root)))

    def made(rule) -> TrialConfig:
        return dataclasses.replace(TRIAL, data=data, labels=LabelsConfig(background_threshold=rule))

    return made


@pytest.mark.parametrize("rule", ["otsu", 0.4])
def test_a_rule_that_needs_no_masks_makes_labels_and_no_figure(trial, tmp_path, rule):
    runner = StageRunner(open_store(None, tmp_path / "store"), Runtime())
    stage = variant_stages(trial(rule), fingerprint).labels
    record = runner.run(stage)
    assert set(record.metrics) == {"pseudo/threshold", "cam/threshold"}
    folder = runner.store.get(stage.key)
    assert len(list((folder / "labels").glob("*.png"))) == 4
    refined = json.loads((folder / "curve.json").read_text())["refined"]
    assert (refined["miou"], refined["curve"], refined["classes"]) == (None, [], 0)


def test_a_rule_that_searches_makes_none(trial, tmp_path):
    runner = StageRunner(open_store(None, tmp_path / "store"), Runtime())
    with pytest.raises(StageFailed, match=r"the train masks cannot tell a threshold: .*otsu, edges or a number"):
        runner.run(variant_stages(trial("auto"), fingerprint).labels)
