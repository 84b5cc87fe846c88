"""What stages report when they really run, against what their files declare."""

from __future__ import annotations

import dataclasses

import pytest
from small_trials import PSA, TRIAL, Work, fingerprint, with_method

from aream.backbones import mctformer_plus
from aream.config import Component
from aream.datasets import shapes
from aream.labels.pseudo_labels import LabelsConfig
from aream.segmentation.config import SegmentationTraining
from aream.segmenters import deeplab
from orchestrator.spec import metrics
from workers import analysis
from workers.metric import of_stage
from workers.pipelines import external_labels_stage, segmentation_stage, variant_stages
from workers.stages.pseudo_label import LABELS_FOLDER
from workers.trial import SegmentationConfig

OF_OTHER_METHODS = {"segmentation_head"}
"""Analyses of a decoder, which the trial's method has not; ``test_analyses.py`` has them."""
ANALYSES = [
    Component(name=name, config=analysis.options_class(name)())
    for name in analysis.names()
    if name not in OF_OTHER_METHODS
]
DATA = Component(name="shapes", config=shapes.Config(image_size=80, train_images=5, val_images=2))
HOST = mctformer_plus.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A trial with everything that there is, its stages and their records."""
    work = Work(tmp_path_factory.mktemp("declared"))
    train = dataclasses.replace(TRIAL.train, out_of_memory="accumulate")
    labels = LabelsConfig(refiner=Component(name="psa", config=PSA))
    trial = dataclasses.replace(
        with_method(TRIAL, weights="entropy_offline"), data=DATA, train=train, labels=labels,
        backbone=Component(name="mctformer_plus", config=HOST),
    )  # fmt: skip
    variant = variant_stages(trial, fingerprint, ANALYSES)
    segmenter = SegmentationConfig(
        model=Component(name="deeplab", config=deeplab.Config(encoder="resnet10t")),
        train=SegmentationTraining(epochs=1, batch_size=2, crop=32),
    )
    evaluation = segmentation_stage(segmenter, trial, variant.labels, fingerprint)
    for stage in (*variant.all(), evaluation):
        work.runner.run(stage)
    folder = work.store.get(variant.labels.key) / LABELS_FOLDER
    external = external_labels_stage(str(folder), DATA, fingerprint)
    work.runner.run(external)
    stages = {stage.key: stage for last in (*variant.all(), evaluation, external) for stage in last.ancestry()}
    return trial, [(stage, work.store.record(stage.key)) for stage in stages.values()]


def with_its_method(trial, stage):
    """The entropies come from a host that is trained without the trial's method."""
    return dataclasses.replace(trial, method=getattr(stage.config, "method", trial.method))


@pytest.mark.slow
def test_records_hold_what_is_declared_and_nothing_else(ran):
    trial, found = ran
    for stage, record in found:
        own = with_its_method(trial, stage)
        declared = {name for metric in of_stage(stage.name) if metric.result for name in metric.names(own)}
        assert set(record.metrics) == declared, stage.name


@pytest.mark.slow
def test_every_epoch_reports_what_is_declared_and_nothing_else(ran):
    trial, found = ran
    for stage, record in found:
        policy = getattr(getattr(stage.config, "train", trial.train), "out_of_memory", "fail")
        train = dataclasses.replace(trial.train, out_of_memory=policy)
        own = with_its_method(dataclasses.replace(trial, train=train), stage)
        declared = {name for metric in of_stage(stage.name) if metric.epochs for name in metric.names(own)}
        reported = {name for row in record.history for name in row} - {"epoch"}
        if stage.name == "warmup":  # the method's own losses begin after it
            declared -= {"train/affinity_loss"}
        assert reported == (declared if record.history else set()), stage.name


def test_a_ranking_and_a_scheduler_know_exactly_these(ran):
    trial, found = ran
    by_name = {stage.name: record for stage, record in found}
    ranked = {name for stage in metrics.OF_A_CONFIGURATION for name in by_name[stage].metrics}
    ranked |= {name for chosen in ANALYSES for name in by_name[chosen.name].metrics}
    costs = {metric.name for metric in metrics.COST}
    assert set(metrics.results(trial, ANALYSES)) == ranked | costs
    assert set(metrics.every_epoch(trial)) == {*by_name["train_cam"].history[-1]} - {"epoch"}
    assert set(metrics.downstream()) == set(by_name["eval_seg"].metrics)
