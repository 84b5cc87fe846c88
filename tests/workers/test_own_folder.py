"""A folder in PASCAL VOC's layout, read as anybody's: the same labels, figures and bytes as by ``voc2012``."""

from __future__ import annotations

import dataclasses

import pytest
from small_trials import TRIAL, Work, fingerprint
from small_voc import write_voc

from aream.config import Component
from aream.datasets import folder, voc2012
from aream.datasets._voc_labels import CLASS_NAMES
from workers.pipelines import variant_stages


@pytest.mark.slow
def test_it_gives_the_same_figures_to_the_digit(tmp_path):
    root = write_voc(tmp_path / "VOC2012", train=8, val=4)
    lists = {split: f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val")}
    own = folder.Config(
        root=str(root),
        images="JPEGImages",
        classes=CLASS_NAMES,
        labels="cls_labels.npy",
        masks="SegmentationClass",
        split=folder.Split(**lists),
    )
    found = {}
    for name, config in (("voc2012", voc2012.Config(root=str(root))), ("folder", own)):
        trial = dataclasses.replace(TRIAL, data=Component(name=name, config=config))
        stages, work = variant_stages(trial, fingerprint), Work(tmp_path / name)
        labels = work.runner.run(stages.labels)
        assert "pseudo/miou" in labels.metrics
        found[name] = (labels.metrics, [entry.sha256 for entry in work.store.files(labels)])
    assert found["folder"] == found["voc2012"]


def test_other_ways_to_keep_labels_give_the_same_keys(tmp_path):
    root = write_voc(tmp_path / "VOC2012", train=6, val=3)
    usual = {"images": "JPEGImages", "classes": CLASS_NAMES, "masks": "SegmentationClass"}
    keys = set()
    for labels in ("cls_labels.npy", "from_masks"):
        config = folder.Config(root=str(root), labels=labels, **usual)
        trial = dataclasses.replace(TRIAL, data=Component(name="folder", config=config))
        keys.add(variant_stages(trial, fingerprint).labels.key)
    assert len(keys) == 1
