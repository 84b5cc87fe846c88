"""Stages of ACR: its training serves every way to localise, and CAMs are the maps that it finds."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_trials import TRIAL, Work, fingerprint

from aream.backbones import vit
from aream.config import Component
from aream.engine.batches import resized
from aream.images import to_tensor
from aream.methods import acr
from workers.components import trained_host
from workers.files.cams import read_cams
from workers.pipelines import training_stage, variant_stages
from workers.processes.runtime import Runtime

HOST = vit.Config(
    vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=4, heads=3, head_kernel=1, pooling="class_token",
    final_norm=False,
)  # fmt: skip


def trial(**changes):
    return dataclasses.replace(
        TRIAL,
        backbone=Component(name="vit", config=HOST),
        method=Component(name="acr", config=acr.Config(**changes)),
        inference=dataclasses.replace(TRIAL.inference, layers="all"),
    )


@pytest.mark.slow
def test_from_images_to_labels(tmp_path):
    work, stages = Work(tmp_path), variant_stages(trial(localisation="attention_gradient"), fingerprint)
    work.runner.run(stages.labels)
    host_folder = work.store.get(stages.cams.inputs["host"].key)
    size = TRIAL.train.image_size
    dataset, host = trained_host(TRIAL.data, trial().backbone, size, host_folder, Runtime())
    method = acr.build(stages.cams.config.method.config)
    images = list(read_cams(work.store.get(stages.cams.key)))
    assert any(image.classes for image in images)
    for image in images:
        pixels = to_tensor(resized(dataset.image(image.image_id), size), host.mean, host.std)[None]
        with torch.no_grad():
            (plain, mirrored) = (
                method.localise(host.eval(), view, torch.tensor([image.classes], dtype=torch.int64))[1][0]
                for view in (pixels, pixels.flip(-1))
            )
        (scale,) = image.scales
        torch.testing.assert_close(scale.maps[0], plain + mirrored.flip(-1), rtol=1e-2, atol=1e-6)


def test_one_training_serves_every_way_to_localise():
    ways = [{}, {"localisation": "gradient_squared"}, {"localisation_layers": 1}, {"patch_affinity": True}]
    found = [variant_stages(trial(**way), fingerprint).cams for way in ways]
    assert len({stage.key for stage in found}) == len(ways)
    assert len({stage.inputs["host"].key for stage in found}) == 1
    assert training_stage(trial(layers=(3,)), fingerprint).key != found[0].inputs["host"].key
