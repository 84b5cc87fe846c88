"""Images of one pixel, one row or one column go through every stage as any other does."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from aream.augmentations import deit
from aream.backbones import mctformer_v2
from aream.config import Component
from aream.data.examination import inspect
from aream.datasets import voc2012
from aream.datasets._voc_labels import CLASS_NAMES
from aream.errors import DivergedError, StageFailed
from aream.labels.pseudo_labels import LabelsConfig
from aream.methods import aream
from aream.refiners import par
from aream.segmentation.config import SegmentationEvaluation, SegmentationTraining
from aream.segmenters import deeplab
from aream.train import TrainConfig
from workers.artifacts.opening import open_store
from workers.components import build_dataset
from workers.pipelines import segmentation_stage, training_stage, variant_stages
from workers.processes.runtime import Runtime
from workers.stage_runner import StageRunner
from workers.stages import layer_entropy
from workers.trial import InferenceSection, SegmentationConfig, TrialConfig

SIZES = {"a": (1, 1), "b": (1, 60), "c": (60, 1), "d": (33, 17)}


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for index, (name, size) in enumerate(SIZES.items()):
        for split in ("", "val_"):
            Image.new("RGB", size, (index * 60, 90, 200)).save(root / f"JPEGImages/{split}{name}.jpg")
            Image.new("L", size, index).save(root / f"SegmentationClass/{split}{name}.png")
    ids = {"train": list(SIZES), "val": [f"val_{name}" for name in SIZES]}
    for split in ids:
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids[split]))
    labels = np.zeros((len(SIZES), len(CLASS_NAMES)), dtype=np.float32)
    labels[range(1, len(SIZES)), range(len(SIZES) - 1)] = 1
    np.savez(root / "cls_labels_plain.npz", ids=ids["train"] + ids["val"], labels=np.concatenate([labels, labels]))
    return Component(name="voc2012", config=voc2012.Config(root=str(root)))


def trial(data: Component) -> TrialConfig:
    return TrialConfig(
        data=data,
        backbone=Component(
            name="mctformer_v2",
            config=mctformer_v2.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=2, heads=2),
        ),
        method=Component(name="aream", config=aream.Config(weights="entropy_offline")),
        train=TrainConfig(
            epochs=2, warmup_epochs=1, batch_size=4, lr=1e-3, lr_warmup_epochs=0, image_size=32,
            augmentation=Component(name="deit", config=deit.Config(rand_augment=None)),
        ),
        inference=InferenceSection(image_size=None, scales=(0.5, 1.0)),
        labels=LabelsConfig(refiner=Component(name="par", config=par.Config())),
    )  # fmt: skip


SEGMENTATION = SegmentationConfig(
    model=Component(
        name="deeplab", config=deeplab.Config(encoder="resnet10t", rates=(1,), channels=8, output_stride=None, level=1)
    ),
    train=SegmentationTraining(epochs=1, batch_size=4, crop=32),
    evaluate=SegmentationEvaluation(scales=(0.5, 1.0)),
)


def fingerprint(component: Component) -> str:
    return inspect(build_dataset(component))


def runner(folder) -> StageRunner:
    return StageRunner(open_store(None, folder / "store"), Runtime())


@pytest.mark.slow
def test_they_are_trained_on_labelled_and_scored(data, tmp_path):
    work, config = runner(tmp_path), trial(data)
    labels = variant_stages(config, fingerprint).labels
    work.run(labels)
    for name, size in SIZES.items():
        with Image.open(work.store.get(labels.key) / "labels" / f"{name}.png") as image:
            assert image.size == size
    found = work.run(segmentation_stage(SEGMENTATION, config, labels, fingerprint))
    assert 0 <= found.metrics["seg/miou"] <= 1


@pytest.mark.slow
def test_a_diverged_segmentation_names_its_stage_step_and_images(data, tmp_path):
    work, config = runner(tmp_path), trial(data)
    labels = variant_stages(config, fingerprint).labels
    hot = dataclasses.replace(SEGMENTATION.train, lr=1e38, head_lr_scale=1.0, epochs=5)
    stage = segmentation_stage(dataclasses.replace(SEGMENTATION, train=hot), config, labels, fingerprint)
    with pytest.raises(StageFailed, match=r"train_seg-\w+: .*not finite in epoch \d, step \d.*images: [a-d], "):
        work.run(stage)
    assert not work.store.has(stage.inputs["segmenter"].key)


def test_entropies_of_a_diverged_host_reach_no_record(data, tmp_path):
    config = trial(data)
    entropy = training_stage(config, fingerprint).inputs["entropy"]
    work = runner(tmp_path)
    work.run(entropy.inputs["host"])
    folder = tmp_path / "host"
    folder.mkdir()
    weights = load_file(work.store.get(entropy.inputs["host"].key) / "model.safetensors")
    save_file({name: value * torch.nan for name, value in weights.items()}, folder / "model.safetensors")
    (tmp_path / "out").mkdir()
    context = SimpleNamespace(runtime=Runtime(), watched=iter)
    with pytest.raises(DivergedError, match="entropies of the host's layers are not finite"):
        layer_entropy.run(entropy.config, {"host": folder}, tmp_path / "out", context)
    assert not list((tmp_path / "out").iterdir())
    json.dumps(work.store.record(entropy.inputs["host"].key).metrics, allow_nan=False)
