"""Trials of the second host, and which methods and hosts go together."""

from __future__ import annotations

import dataclasses

import pytest
from small_trials import TRIAL, Killed, Work, fingerprint

from aream import discover, methods
from aream.augmentations import scale_and_crop
from aream.backbones import conformer, mctformer_v2, vit
from aream.config import Component
from aream.errors import ConfigError
from workers.pipelines import BASELINE, training_stage, variant_stages
from workers.stages import attention_statistics, layer_gain
from workers.trial import InferenceSection, TrialConfig

TINY = conformer.Config(patch_size=8, dim=12, depth=3, heads=2, base_channels=4, channel_ratio=1)
CONFORMER = dataclasses.replace(
    TRIAL,
    backbone=Component(name="conformer", config=TINY),
    train=dataclasses.replace(
        TRIAL.train,
        augmentation=Component(name="scale_and_crop", config=scale_and_crop.Config(scale=(0.7, 1.5))),
        schedule_step="iteration",
        head_lr_scale=10.0,
        select="last",
    ),
)

FAMILIES = {
    "class token": vit.Config(
        vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2, localisation="fused", auxiliary_layer=1
    ),
    "rotary, registers": vit.Config(vit="vit_small_patch16_dinov3", patch_size=8, dim=16, depth=3, heads=2),
    "no class token": vit.Config(
        vit="vit_base_patch16_siglip_224", patch_size=8, dim=12, depth=3, heads=2, pooling="gwrp", head_kernel=1
    ),
}
TRANSFORMERS = {
    name: dataclasses.replace(TRIAL, backbone=Component(name="vit", config=config)) for name, config in FAMILIES.items()
}


def with_method(trial: TrialConfig, name: str, **changes) -> TrialConfig:
    config = discover.load(methods, name).Config(**changes)
    return dataclasses.replace(trial, method=Component(name=name, config=config))


def with_host(trial: TrialConfig, **changes) -> TrialConfig:
    host = dataclasses.replace(trial.backbone.config, **changes)
    return dataclasses.replace(trial, backbone=Component(name=trial.backbone.name, config=host))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["aream", "transcam"])
def test_stages_of_the_second_host_run_end_to_end(tmp_path, head):
    work = Work(tmp_path)
    trial = with_method(with_host(CONFORMER, head=head), "aream", label_scales=(0.5, 1.0))
    stages = variant_stages(trial, fingerprint, [Component(name="layer_gain", config=layer_gain.Options())])
    labels = work.runner.run(stages.labels)
    gain = work.runner.run(stages.analyses[0])
    assert 0 <= labels.metrics["cam/miou"] <= 1
    assert gain.metrics["layer/all/miou"] == pytest.approx(labels.metrics["pseudo/miou"])
    rows = [row for name, row in work.rows if name == "train_cam" and "train/affinity_loss" in row]
    assert rows
    assert all(row["train/affinity_loss"] > 0 for row in rows)
    weighted = training_stage(with_method(trial, "aream", weights="entropy_offline", entropy_prob="sum"), fingerprint)
    entropies = work.runner.run(weighted.inputs["entropy"]).metrics
    assert len([name for name in entropies if name.startswith("entropy/layer_")]) == 3
    assert all(0 <= value <= 4 + 1e-4 for value in entropies.values())  # bits, of 16 patches


@pytest.mark.slow
def test_the_baseline_of_the_second_host_runs_end_to_end(tmp_path):
    work = Work(tmp_path)
    stages = variant_stages(with_method(with_host(CONFORMER, head="transcam"), "transcam"), fingerprint)
    assert 0 <= work.runner.run(stages.labels).metrics["pseudo/miou"] <= 1
    rows = [row for name, row in work.rows if name == "train_cam"]
    assert rows[-1]["train/classification_loss"] < rows[0]["train/classification_loss"]
    assert not any("train/affinity_loss" in row for row in rows)


@pytest.mark.slow
def test_a_killed_training_of_the_second_host_continues_exactly(tmp_path):
    """Running statistics, rates of every iteration, crops."""
    stage = training_stage(CONFORMER, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    with pytest.raises(Killed):
        Work(tmp_path / "killed", die_after=2, checkpoint_s=0.0).runner.run(stage)
    assert Work(tmp_path / "killed", checkpoint_s=0.0).digests(stage) == expected


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_stages_of_any_transformer_run_end_to_end(tmp_path, trial):
    """Refining by every subset, entropies, statistics of every layer, gains."""
    work = Work(tmp_path)
    trial = with_method(trial, "aream", weights="entropy_offline", label_scales=(0.5, 1.0))
    analyses = [
        Component(name="layer_gain", config=layer_gain.Options()),
        Component(name="attention_statistics", config=attention_statistics.Options()),
    ]
    stages = variant_stages(trial, fingerprint, analyses)
    labels = work.runner.run(stages.labels)
    gain, statistics = (work.runner.run(stage) for stage in stages.analyses)
    assert gain.metrics["layer/all/miou"] == pytest.approx(labels.metrics["pseudo/miou"])
    assert statistics.metrics
    rows = [row for name, row in work.rows if name == "train_cam" and "train/affinity_loss" in row]
    assert all(row["train/affinity_loss"] > 0 for row in rows)
    entropies = work.runner.run(training_stage(trial, fingerprint).inputs["entropy"]).metrics
    assert len([name for name in entropies if name.startswith("entropy/layer_")]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_a_killed_training_of_any_transformer_continues_exactly(tmp_path, trial):
    stage = training_stage(trial, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    with pytest.raises(Killed):
        Work(tmp_path / "killed", die_after=2, checkpoint_s=0.0).runner.run(stage)
    assert Work(tmp_path / "killed", checkpoint_s=0.0).digests(stage) == expected


def test_each_host_has_its_published_split():
    published = {"mctformer_v2": (7, mctformer_v2.Config()), "conformer": (9, conformer.Config())}
    for name, (split, config) in published.items():
        trial = dataclasses.replace(TRIAL, backbone=Component(name=name, config=config), train=sized(16))
        trial = dataclasses.replace(trial, inference=InferenceSection(layers="shallow"))
        method = training_stage(trial, fingerprint).config.method.config
        assert method.fusion_layers == tuple(range(split))
        assert method.supervised_layers == tuple(range(split, 12))
        assert variant_stages(trial, fingerprint).labels.config.layers == tuple(range(split))
        own = training_stage(with_method(trial, "aream", layer_index=4), fingerprint).config.method.config
        assert own.supervised_layers == tuple(range(4, 12))
        same = training_stage(with_method(trial, "aream", layer_index=split), fingerprint)
        assert same.key == training_stage(trial, fingerprint).key


def sized(patch: int):
    return dataclasses.replace(TRIAL.train, image_size=2 * patch)


def test_plain_methods_share_one_training():
    keys = {training_stage(with_method(TRIAL, name), fingerprint).key for name in ("mctformer", "mean_affinity")}
    assert len(keys) == 1
    summed = with_host(CONFORMER, head="transcam")
    keys = {training_stage(with_method(summed, name), fingerprint).key for name in ("transcam", "mean_affinity")}
    assert len(keys) == 1
    shifted = training_stage(with_method(summed, "transcam", layer_index=1), fingerprint)
    assert {shifted.key} == keys
    assert training_stage(summed, fingerprint).key not in keys
    assert training_stage(with_method(CONFORMER, "mean_affinity"), fingerprint).key not in keys


def test_what_is_kept_at_the_end_does_not_change_the_warm_up():
    trials = [
        dataclasses.replace(TRIAL, train=dataclasses.replace(TRIAL.train, select=select, select_by=by))
        for select, by in (("best", "image"), ("best", "class"), ("last", "image"), ("last", "class"))
    ]
    stages = [training_stage(trial, fingerprint) for trial in trials]
    assert len({stage.key for stage in stages[:3]}) == 3
    assert stages[2].key == stages[3].key
    assert len({stage.inputs["warmup"].key for stage in stages}) == 1


@pytest.mark.parametrize("trial", [TRIAL, CONFORMER], ids=["mctformer_v2", "conformer"])
def test_entropies_come_from_the_plain_training_of_the_same_host(trial):
    entropy = training_stage(with_method(trial, "aream", weights="entropy_offline"), fingerprint).inputs["entropy"]
    assert entropy.inputs["host"].key == training_stage(dataclasses.replace(trial, method=BASELINE), fingerprint).key


@pytest.mark.parametrize(
    ("trial", "method", "message"),
    [
        (CONFORMER, "mctformer", "mctformer needs an mctformer backbone, got conformer"),
        (TRIAL, "transcam", "transcam needs the backbone conformer, got mctformer_v2"),
        (CONFORMER, "transcam", r"transcam needs backbone\.head: transcam, got aream"),
    ],
)
def test_methods_that_make_no_sense_on_a_host_are_refused_when_planning(trial, method, message):
    with pytest.raises(ConfigError, match=message):
        training_stage(with_method(trial, method), fingerprint)
    with pytest.raises(ConfigError, match=message):
        variant_stages(with_method(trial, method), fingerprint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vit": "swin_tiny_patch4_window7_224"}, "vit: swin_tiny_patch4_window7_224 is a SwinTransformer"),
        ({"vit": "beit_base_patch16_224"}, "vit: beit_base_patch16_224 is a Beit, made for images of one size"),
        ({"vit": "vit_smal_patch16_224"}, "near are vit_small_patch16_224"),
        ({"vit": "vit_base_patch16_siglip_224", "localisation": "fused"}, "localisation: fused needs a class token"),
        ({"patch_size": 12}, r"train\.image_size: need a multiple of the patch size 12, got 32"),
    ],
)
def test_transformers_that_cannot_be_hosts_are_refused_when_planning(changes, message):
    with pytest.raises(ConfigError, match=message):
        training_stage(with_host(TRANSFORMERS["class token"], **({"localisation": "cam"} | changes)), fingerprint)


def test_a_single_layer_is_shallow():
    trial = with_method(with_host(TRIAL, depth=1), "mean_affinity")
    trial = dataclasses.replace(trial, inference=InferenceSection(image_size=32, layers="shallow"))
    assert variant_stages(trial, fingerprint).labels.config.layers == (0,)
    with pytest.raises(ConfigError, match="layers: the backbone has no deep layer, its depth is 1"):
        variant_stages(dataclasses.replace(trial, inference=InferenceSection(layers="deep")), fingerprint)
    with pytest.raises(ConfigError, match=r"method.supervised_layers: the backbone has no deep layer"):
        training_stage(with_method(trial, "aream"), fingerprint)
