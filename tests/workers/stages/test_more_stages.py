"""MoRe through the stages: its network is kept beside the host's, and CAMs are its LAMs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from small_trials import TRIAL, Killed, Work, fingerprint

from aream.backbones import vit
from aream.config import Component
from aream.datasets import shapes
from aream.engine.batches import resized
from aream.errors import ConfigError
from aream.images import to_tensor
from aream.methods import more
from workers.checks.training_step import check_host
from workers.components import trained_host
from workers.files.cams import read_cams
from workers.pipelines import training_stage, variant_stages
from workers.processes.runtime import Runtime
from workers.trial import InferenceSection

SIDE = 64
HOST = vit.Config(
    vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2, class_tokens="per_class", registers=2,
    head_kernel=1, head_bias=False, rectified=False, pooling="channel_max",
)  # fmt: skip


@pytest.fixture
def trial():
    return dataclasses.replace(
        TRIAL,
        data=Component(name="shapes", config=shapes.Config(image_size=SIDE, train_images=8, val_images=4)),
        backbone=Component(name="vit", config=HOST),
        method=Component(name="more", config=more.Config(label_scales=(1.0,))),
        train=dataclasses.replace(TRIAL.train, image_size=SIDE),
        inference=InferenceSection(image_size=SIDE, flip=False, layers="none"),
    )


@pytest.mark.slow
def test_maps_are_lams_of_the_network_that_was_trained(tmp_path, trial):
    work, stage = Work(tmp_path), variant_stages(trial, fingerprint).cams
    folder = work.store.get(work.runner.run(stage).key)
    host_folder = work.store.get(stage.inputs["host"].key)
    dataset, host = trained_host(trial.data, trial.backbone, SIDE, host_folder, Runtime())
    network = more.MoreNetwork(12, 6, "official")
    network.load_state_dict(load_file(host_folder / "method.safetensors"))
    for image in read_cams(folder):
        pixels = to_tensor(resized(dataset.image(image.image_id), SIDE), host.mean, host.std)
        with torch.no_grad():
            tokens = host.eval()(pixels[None]).tokens[-1]
            maps = network.graph(tokens[:, :6], tokens[:, 8:]) @ tokens[:, 8:].transpose(1, 2)
        expected = maps[0, list(image.classes)]
        expected = (expected - expected.amin(dim=1, keepdim=True)).reshape(image.scales[0].maps[0].shape)
        torch.testing.assert_close(image.scales[0].maps[0], expected, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_a_killed_training_continues_exactly(tmp_path, trial):
    """Draws included: they depend on image and step alone."""
    stage = training_stage(trial, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    with pytest.raises(Killed):
        Work(tmp_path / "killed", die_after=2, checkpoint_s=0.0).runner.run(stage)
    assert Work(tmp_path / "killed", checkpoint_s=0.0).digests(stage) == expected


def test_hosts_that_it_does_not_fit_are_refused_before_anything_runs(trial):
    def check(classes=6, **changes):
        train = dataclasses.replace(trial.train, **changes)
        check_host(trial.backbone, [trial.method], classes, train, 8, 1)

    check()
    with pytest.raises(ConfigError, match=r"method\.name: more needs two classes or more"):
        check(classes=1)
    with pytest.raises(ConfigError, match=r"method\.uncertain_weight: .* need a side of 56 pixels.*image_size 48"):
        check(image_size=48)
    one = Component(name="vit", config=dataclasses.replace(HOST, class_tokens="one"))
    with pytest.raises(ConfigError, match=r"method\.name: more needs a host with one class token a class.* got vit"):
        variant_stages(dataclasses.replace(trial, backbone=one), fingerprint)
