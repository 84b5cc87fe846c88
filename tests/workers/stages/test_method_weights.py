"""Stages of a method that has a network of its own and finds its own maps."""

from __future__ import annotations

import dataclasses

import added_methods
import pytest
import torch
from safetensors.torch import load_file
from small_trials import TRIAL, Killed, Work, fingerprint

from aream import discover, methods
from aream.config import Component
from aream.engine.batches import resized
from aream.errors import ConfigError
from aream.images import to_tensor
from aream.methods import aream, mean_affinity, plus, transcam
from workers.analysis import Subject, analysis_stage, options_class
from workers.checks.training_step import check_host
from workers.components import trained_host
from workers.files.cams import read_cams
from workers.metric import each_loss, each_measure, pulls_on_layers
from workers.pipelines import training_stage, variant_stages
from workers.processes.runtime import Runtime


@pytest.fixture(autouse=True)
def added(monkeypatch):
    added_methods.add_to(monkeypatch)


@pytest.fixture
def trial():
    config = discover.load(methods, "token_probe").Config()
    return dataclasses.replace(TRIAL, method=Component(name="token_probe", config=config))


@pytest.fixture
def plain():
    return dataclasses.replace(TRIAL, method=Component(name="mean_affinity", config=mean_affinity.Config()))


def files(work, stage):
    folder = work.store.get(work.runner.run(stage).key)
    return {file.name: load_file(file) for file in folder.glob("*.safetensors")}


@pytest.mark.slow
def test_its_weights_lie_beside_the_hosts_and_a_fork_is_a_training_straight_through(tmp_path, trial, plain):
    work, stage = Work(tmp_path), training_stage(trial, fingerprint)
    found = files(work, stage)
    assert set(found) == {"model.safetensors", "method.safetensors"}
    assert set(found["method.safetensors"]) == {"linear.weight", "linear.bias", "steps"}
    assert found["method.safetensors"]["linear.weight"].shape == (6, 12)
    assert dict(work.digests(dataclasses.replace(stage, inputs={}))) == dict(work.digests(stage))
    assert set(files(work, training_stage(plain, fingerprint))) == {"model.safetensors"}
    assert stage.inputs["warmup"].key == training_stage(plain, fingerprint).inputs["warmup"].key


@pytest.mark.slow
@pytest.mark.parametrize(("die_after", "checkpoint_s"), [(1, 60.0), (2, 0.0)])
def test_a_killed_training_continues_exactly(tmp_path, trial, die_after, checkpoint_s):
    stage = training_stage(trial, fingerprint)
    expected = Work(tmp_path / "whole").digests(stage)
    with pytest.raises(Killed):
        Work(tmp_path / "killed", die_after=die_after, checkpoint_s=checkpoint_s).runner.run(stage)
    assert Work(tmp_path / "killed", checkpoint_s=checkpoint_s).digests(stage) == expected


@pytest.mark.slow
def test_its_maps_are_those_of_the_network_that_was_trained(tmp_path, trial, plain):
    work = Work(tmp_path)
    trial = dataclasses.replace(trial, inference=dataclasses.replace(trial.inference, flip=False, layers="none"))
    stage = variant_stages(trial, fingerprint).cams
    size = trial.train.image_size
    folder = work.store.get(work.runner.run(stage).key)
    host_folder = work.store.get(stage.inputs["host"].key)
    dataset, host = trained_host(trial.data, trial.backbone, size, host_folder, Runtime())
    weights = load_file(host_folder / "method.safetensors")
    for image in read_cams(folder):
        (scale,) = image.scales
        with torch.no_grad():
            tokens = host.eval()(_pixels(dataset, host, image.image_id, size)).tokens[-1][0, host.prefix_tokens :]
        maps = tokens @ weights["linear.weight"].T + weights["linear.bias"]
        pulls = weights["linear.weight"].sum(0).norm() / len(tokens)  # alike for all patches
        expected = (maps * pulls).T[list(image.classes)].reshape(scale.maps[0].shape)
        torch.testing.assert_close(scale.maps[0], expected, rtol=1e-2, atol=1e-5)
    plainly = variant_stages(plain, fingerprint).cams.config
    assert plainly.method is None


def _pixels(dataset, host, image_id, size):
    return to_tensor(resized(dataset.image(image_id), size), host.mean, host.std)[None]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attention_statistics", "held_out_gain"])
def test_analyses_see_its_maps(tmp_path, trial, name):
    work, variant = Work(tmp_path), variant_stages(trial, fingerprint)
    prints = {"data": fingerprint(trial.data), "backbone": "random"}
    subject = Subject(trial, 3, 8, variant.cams.inputs["host"], variant.cams, prints)
    stage = analysis_stage(Component(name=name, config=options_class(name)()), subject)
    for before in stage.ancestry():
        work.runner.run(before)
    assert work.store.get(stage.key).is_dir()


def test_a_host_that_it_does_not_fit_is_refused_before_anything_runs(trial):
    with pytest.raises(ConfigError, match="method: token_probe tells at most 100 classes apart, given 101"):
        check_host(trial.backbone, [trial.method], 101, trial.train, 10, 1)
    check_host(trial.backbone, [trial.method], 6, trial.train, 10, 2)


@pytest.mark.slow
def test_beside_aream_in_stages(tmp_path, trial):
    """With offline weights: the entropies are an input of the training, and of what finds the maps later."""
    parts = (trial.method, Component(name="aream", config=aream.Config(weights="entropy_offline")))
    trial = dataclasses.replace(trial, method=Component(name="plus", config=plus.Config(parts=parts)))
    work, cams = Work(tmp_path), variant_stages(trial, fingerprint).cams
    assert set(cams.inputs) == {"host", "entropy"}
    assert cams.inputs["entropy"].key == cams.inputs["host"].inputs["entropy"].key
    assert list(read_cams(work.store.get(work.runner.run(cams).key)))
    rows = [row for name, row in work.rows if name == "train_cam"]
    terms = {f"train/{name}_loss" for name in each_loss(trial)}
    assert terms == {name for name in rows[-1] if name.endswith("_loss")}
    assert {f"train/{name}_share" for name in each_measure(trial)} <= set(rows[-1])
    assert pulls_on_layers(trial) == ("",)
    assert set(files(work, cams.inputs["host"])["method.safetensors"]) >= {"token_probe.linear.weight"}


def test_a_part_that_makes_no_sense_on_the_host_is_refused(trial):
    parts = (trial.method, Component(name="transcam", config=transcam.Config()))
    trial = dataclasses.replace(trial, method=Component(name="plus", config=plus.Config(parts=parts)))
    with pytest.raises(ConfigError, match="transcam needs the backbone conformer"):
        training_stage(trial, fingerprint)
