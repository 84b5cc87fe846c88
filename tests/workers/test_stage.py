from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from small_trials import DATA, TRIAL, Killed, Work, fingerprint, with_method

from aream.backbones import conformer
from aream.config import Component
from aream.errors import Interrupted, StageFailed, StageHeld, StoreUnavailable
from aream.labels.pseudo_labels import LabelsConfig
from aream.methods import mctformer
from aream.metrics import class_iou, confusion_matrix
from aream.segmentation.config import SegmentationEvaluation, SegmentationTraining
from aream.segmenters import deeplab
from workers.artifacts.leases import Leases
from workers.components import build_dataset
from workers.files.labels import read_labels, write_labels
from workers.pipelines import external_labels_stage, segmentation_stage, training_stage, variant_stages
from workers.stages import layer_gain
from workers.trial import InferenceSection, SegmentationConfig


def test_keys_change_with_what_changes_the_result_only():
    base = training_stage(TRIAL, fingerprint)
    same = [
        dataclasses.replace(TRIAL, inference=InferenceSection(image_size=64)),
        dataclasses.replace(TRIAL, labels=LabelsConfig(background_threshold=0.4)),
        with_method(TRIAL, supervised_layers=(2,)),  # what `deep` means for three layers
    ]
    other = [
        dataclasses.replace(TRIAL, seed=1),
        with_method(TRIAL, alpha_low=0.2),
        dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, epochs=4)),
    ]
    assert {training_stage(trial, fingerprint).key for trial in same} == {base.key}
    assert len({base.key, *(training_stage(trial, fingerprint).key for trial in other)}) == 4


def test_trials_that_differ_after_the_warmup_share_it():
    first, second = (training_stage(with_method(TRIAL, alpha_low=low), fingerprint) for low in (0.2, 0.3))
    assert first.key != second.key
    assert first.inputs["warmup"].key == second.inputs["warmup"].key


def test_layer_subsets_share_the_training_and_the_cams():
    subsets = ("all", "shallow", "deep", (0, 2))
    stages = [
        variant_stages(
            dataclasses.replace(TRIAL, inference=InferenceSection(image_size=32, layers=layers)), fingerprint
        )
        for layers in subsets
    ]
    assert len({stage.cams.key for stage in stages}) == 1
    assert len({stage.labels.key for stage in stages}) == 4


def test_offline_entropy_comes_from_the_baseline_of_the_same_seed():
    trial = with_method(TRIAL, weights="entropy_offline")
    baseline = dataclasses.replace(TRIAL, method=Component(name="mctformer", config=mctformer.Config()))
    entropy = training_stage(trial, fingerprint).inputs["entropy"]
    assert entropy.inputs["host"].key == training_stage(baseline, fingerprint).key


@pytest.mark.slow
def test_a_fork_of_the_warmup_equals_training_straight_through(tmp_path):
    """The warm-up ends a process in one case and does not exist as a stage in the other."""
    work = Work(tmp_path)
    forked = training_stage(TRIAL, fingerprint)
    straight = dataclasses.replace(forked, inputs={})
    model = {path: digest for path, digest in work.digests(forked)}
    assert model["model.safetensors"] == dict(work.digests(straight))["model.safetensors"]
    again = with_method(TRIAL, alpha_low=0.34)  # a second fork of the same file
    second = training_stage(again, fingerprint)
    assert (
        dict(work.digests(second))["model.safetensors"]
        == dict(work.digests(dataclasses.replace(second, inputs={})))["model.safetensors"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("die_after", [1, 2])
@pytest.mark.parametrize("checkpoint_s", [60.0, 0.0], ids=["every epoch", "every step"])
def test_a_killed_training_continues_exactly(tmp_path, die_after, checkpoint_s):
    stage = training_stage(TRIAL, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    with pytest.raises(Killed):
        Work(tmp_path / "killed", die_after=die_after, checkpoint_s=checkpoint_s).runner.run(stage)
    second = Work(tmp_path / "killed", checkpoint_s=checkpoint_s)
    assert second.digests(stage) == expected
    assert not list((tmp_path / "killed" / "store" / "checkpoints").glob("train_cam*"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_trusted(tmp_path):
    stage = training_stage(TRIAL, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    with pytest.raises(Killed):
        Work(tmp_path / "killed", die_after=2).runner.run(stage)
    (checkpoint,) = (tmp_path / "killed" / "store" / "checkpoints").glob("train_cam*")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert Work(tmp_path / "killed").digests(stage) == expected


@pytest.mark.slow
def test_labels_segmentation_and_analysis_end_to_end(tmp_path):
    work = Work(tmp_path)
    stages = variant_stages(TRIAL, fingerprint, [Component(name="layer_gain", config=layer_gain.Options())])
    labels = work.runner.run(stages.labels)
    assert 0 <= labels.metrics["cam/miou"] <= 1
    assert 0 <= labels.metrics["pseudo/miou"] <= 1
    dataset = build_dataset(DATA)
    for image_id in dataset.ids("train"):
        found = read_labels(work.store.get(stages.labels.key) / "labels" / f"{image_id}.png")
        present = {0, *(int(c) + 1 for c in dataset.labels(image_id).nonzero()[0])}
        assert set(found.flatten().tolist()) <= present
    gain = work.runner.run(stages.analyses[0])
    assert gain.metrics["layer/all/miou"] == pytest.approx(labels.metrics["pseudo/miou"])
    assert gain.metrics["layer/none/miou"] == pytest.approx(labels.metrics["cam/miou"])
    evaluation = work.runner.run(segmentation_stage(segmentation(), TRIAL, stages.labels, fingerprint))
    assert 0 <= evaluation.metrics["seg/miou"] <= 1
    assert 0 <= evaluation.metrics["seg/pixel_accuracy"] <= 1
    ious = json.loads((work.store.get(evaluation.key) / "iou.json").read_text())
    assert list(ious) == ["background", *dataset.class_names]
    assert all(value is None or 0 <= value <= 1 for value in ious.values())
    by_image = json.loads((work.store.get(evaluation.key) / "images.json").read_text())
    assert list(by_image) == list(dataset.ids("val"))
    total = 0
    for image_id, row in by_image.items():
        predicted = read_labels(work.store.get(evaluation.key) / "predictions" / f"{image_id}.png")
        confusion = confusion_matrix(predicted, dataset.mask(image_id), len(ious))
        total = total + confusion
        assert row == pytest.approx([None if np.isnan(x) else x for x in class_iou(confusion)])
    assert list(ious.values()) == pytest.approx([None if np.isnan(x) else x for x in class_iou(total)])
    train = work.store.record(evaluation.inputs["segmenter"])
    assert train.inputs["labels"] == stages.labels.key


def segmentation() -> SegmentationConfig:
    return SegmentationConfig(
        model=Component(
            name="deeplab",
            config=deeplab.Config(encoder="resnet10t", rates=(1,), channels=8, output_stride=None, level=1),
        ),
        train=SegmentationTraining(epochs=2, batch_size=4, crop=32, lr=0.01),
        evaluate=SegmentationEvaluation(scales=(1.0, 1.5)),
    )


@pytest.mark.slow
def test_a_killed_segmentation_continues_exactly(tmp_path):
    labels = variant_stages(TRIAL, fingerprint).labels
    stage = segmentation_stage(segmentation(), TRIAL, labels, fingerprint).inputs["segmenter"]
    whole = Work(tmp_path / "whole")
    expected = whole.digests(stage)
    killed = Work(tmp_path / "killed")
    killed.runner.run(labels)
    killed.die_after, killed.dying = 1, "train_seg"
    with pytest.raises(Killed):
        killed.runner.run(stage)
    assert Work(tmp_path / "killed").digests(stage) == expected


def test_ground_truth_is_refused_as_pseudo_labels(tmp_path):
    dataset = build_dataset(DATA)
    (tmp_path / "masks").mkdir()
    for image_id in dataset.ids("train"):
        write_labels(tmp_path / "masks" / f"{image_id}.png", dataset.mask(image_id))
    labels = external_labels_stage(str(tmp_path / "masks"), DATA, fingerprint)
    with pytest.raises(StageFailed, match="the pseudo-labels are the ground truth"):
        Work(tmp_path).runner.run(segmentation_stage(segmentation(), TRIAL, labels, fingerprint))


def test_labels_made_elsewhere_must_fit_their_images(tmp_path):
    dataset = build_dataset(DATA)
    (tmp_path / "labels").mkdir()
    for image_id in dataset.ids("train"):
        write_labels(tmp_path / "labels" / f"{image_id}.png", dataset.mask(image_id) // 2)
    first = tmp_path / "labels" / f"{dataset.ids('train')[0]}.png"
    write_labels(first, dataset.mask(dataset.ids("train")[0])[:-1])
    with pytest.raises(StageFailed, match=f"{first.stem}: the label is 32 x 31, the image 32 x 32"):
        Work(tmp_path).runner.run(external_labels_stage(str(tmp_path / "labels"), DATA, fingerprint))


@pytest.mark.slow
def test_a_corrupt_input_is_computed_again(tmp_path):
    stages = variant_stages(TRIAL, fingerprint)
    work = Work(tmp_path)
    expected = work.digests(stages.labels)
    work.store.discard(stages.labels.key)
    (work.store.get(stages.cams.key) / "index.jsonl").write_text("")
    assert Work(tmp_path).digests(stages.labels) == expected


def test_a_diverged_loss_names_its_step_and_images(tmp_path):
    trial = dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, lr=1e30, lr_floor=0.0))
    with pytest.raises(StageFailed, match=r"not finite in epoch \d, step \d.*images: train_"):
        Work(tmp_path).runner.run(training_stage(trial, fingerprint))


def test_a_store_without_room_publishes_nothing(tmp_path):
    """A full disk, here a folder that no longer takes files."""
    work = Work(tmp_path)
    stage = training_stage(TRIAL, fingerprint)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "staging").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="staging"):
        work.runner.run(stage)
    (tmp_path / "store" / "staging").unlink()
    shutil.rmtree(tmp_path / "store")
    assert work.digests(stage)


@pytest.mark.slow
def test_inputs_that_went_away_with_their_store_are_no_fault_of_the_stage(tmp_path):
    """Labels are read from the store's own folder in every epoch."""
    labels = variant_stages(TRIAL, fingerprint).labels
    stage = segmentation_stage(segmentation(), TRIAL, labels, fingerprint).inputs["segmenter"]
    work = Work(tmp_path)
    work.runner.run(labels)

    def unmount(stage, row):
        (tmp_path / "store").rename(tmp_path / "elsewhere")

    work.runner.report = unmount
    with pytest.raises(StoreUnavailable, match="the folder of the store is gone"):
        work.runner.run(stage)


def test_a_stage_that_another_process_computes_is_not_begun(tmp_path):
    work, stage = Work(tmp_path), training_stage(TRIAL, fingerprint)
    warmup = stage.inputs["warmup"]
    with Leases(work.store.storage).take(warmup.key), pytest.raises(StageHeld, match="being computed by pid") as held:
        work.runner.run(stage)
    assert held.value.key == warmup.key
    assert list(work.store.keys()) == []
    assert work.digests(stage)


@pytest.mark.slow
@pytest.mark.parametrize("after", range(7))
def test_a_stage_stopped_at_any_step_or_in_its_validation_continues_exactly(tmp_path, after):
    stage = training_stage(TRIAL, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    stopped = Work(tmp_path / "stopped")
    asked = iter([False] * after)
    stopped.runner.stop = lambda: next(asked, True)
    with pytest.raises(Interrupted):
        stopped.runner.run(stage)
    assert not list(stopped.store.storage.list("leases/"))
    assert Work(tmp_path / "stopped").digests(stage) == expected
    assert not list(stopped.store.storage.list("checkpoints/"))


def test_lengths_that_are_left_to_the_epochs_are_those_that_are_named():
    left = dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, epochs=12, warmup_epochs=None))
    named = dataclasses.replace(left, train=left.train.resolved())
    assert left.train != named.train
    stage = training_stage(left, fingerprint)
    assert stage.key == training_stage(named, fingerprint).key
    assert stage.inputs["warmup"].key == training_stage(named, fingerprint).inputs["warmup"].key
    assert stage.config.train.warmup_epochs == 2


def test_the_order_of_padding_is_the_backbones_own_unless_named():
    def key(backbone, **changes):
        trial = dataclasses.replace(TRIAL, backbone=backbone, inference=InferenceSection(**changes))
        return variant_stages(trial, fingerprint).cams.key

    conformer_host = Component(name="conformer", config=conformer.Config(patch_size=8, dim=12, depth=3, heads=2))
    for backbone, own, other in (
        (TRIAL.backbone, "after_flip", "before_flip"),
        (conformer_host, "before_flip", "after_flip"),
    ):
        assert key(backbone) == key(backbone, padding=own) != key(backbone, padding=other)
        assert key(backbone, image_size=32) == key(backbone, image_size=32, padding=other)
