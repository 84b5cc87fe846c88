"""PSA from the CAMs to pseudo-labels, as stages: what is trained, for whom, and that a kill changes nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_trials import PSA, TRIAL, Killed, Work, fingerprint

from aream.affinity_net import network as affinity_network
from aream.affinity_net.train import AffinityTraining
from aream.config import Component
from aream.datasets import shapes
from aream.errors import ConfigError, DataError, DivergedError, Interrupted
from aream.labels.pseudo_labels import LabelsConfig
from aream.refiners import psa
from workers.checks import rehearsal
from workers.components import build_dataset
from workers.files.labels import read_labels
from workers.files.scores import read_scores, write_scores
from workers.pipelines import training_stage, variant_stages
from workers.processes.runtime import Runtime
from workers.stage import Stage
from workers.stages import affinity_scores

DATA = Component(name="shapes", config=shapes.Config(image_size=80, train_images=5, val_images=2))


def with_psa(refiner: psa.Config = PSA, **labels):
    chosen = LabelsConfig(refiner=Component(name="psa", config=refiner), **labels)
    return dataclasses.replace(TRIAL, data=DATA, labels=chosen)


def labels_stage(refiner: psa.Config = PSA, **labels) -> Stage:
    return variant_stages(with_psa(refiner, **labels), fingerprint).labels


def affinity_stage(refiner: psa.Config = PSA) -> Stage:
    return labels_stage(refiner).inputs["affinity"]


def changed(part: str, **values) -> psa.Config:
    return dataclasses.replace(PSA, **{part: dataclasses.replace(getattr(PSA, part), **values)})


def test_how_it_walks_does_not_retrain():
    walks = [
        labels_stage(dataclasses.replace(PSA, **walk), **labels)
        for walk in ({}, {"beta": 14.0}, {"logt": 7}, {"background": "power"}, {"background_alpha": 4.0})
        for labels in ({}, {"background_threshold": 0.39})
    ]
    assert len({stage.key for stage in walks}) == 10
    assert len({stage.inputs["affinity"].key for stage in walks}) == 1


def test_what_the_training_reads_does():
    others = [
        changed("train", epochs=3), changed("train", momentum=0.9), changed("network", width=3),
        changed("targets", alpha_high=16.0),
    ]  # fmt: skip
    assert len({affinity_stage().key, *(affinity_stage(other).key for other in others)}) == 5
    scores = {affinity_stage(other).inputs["scores"].key for other in others[:3]}
    assert scores == {affinity_stage().inputs["scores"].key}


def test_other_refiners_have_no_network():
    assert list(variant_stages(TRIAL, fingerprint).labels.inputs) == ["cams"]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Work:
    """A store with the CAMs, and whatever a test adds."""
    found = Work(tmp_path_factory.mktemp("affinity"))
    found.runner.run(affinity_stage())
    return found


@pytest.mark.slow
def test_from_cams_to_labels(work):
    labels = labels_stage(background_threshold=0.39)
    record = work.runner.run(labels)
    assert 0 <= record.metrics["pseudo/miou"] <= 1
    assert record.metrics["pseudo/threshold"] == 0.39
    dataset = build_dataset(DATA)
    for image_id in dataset.ids("train"):
        found = read_labels(work.store.get(labels.key) / "labels" / f"{image_id}.png")
        present = {0, *(int(c) + 1 for c in dataset.labels(image_id).nonzero()[0])}
        assert set(found.flatten().tolist()) <= present
        assert found.shape == (80, 80)
    trained = work.store.record(labels.inputs["affinity"].key)
    assert [row["epoch"] for row in trained.history] == [1.0, 2.0]
    terms = ("affinity_background", "affinity_class", "affinity_different")
    for row in trained.history:
        background, same, different = (row[f"train/{term}_loss"] for term in terms)
        # A batch without a kind of pairs adds 0 to the loss, and nothing to the mean of that kind.
        assert 0 < row["train/affinity_loss"] <= background / 4 + same / 4 + different / 2 + 1e-6


@pytest.mark.slow
def test_scores_of_a_dense_crf_train_too(work):
    stage = affinity_stage(changed("targets", scores="crf"))
    assert work.runner.run(stage).metrics["train/affinity_loss"] > 0
    (image_id, *_) = build_dataset(DATA).ids("train")
    scores = read_scores(affinity_scores.scores_file(work.store.get(stage.inputs["scores"].key), image_id), (80, 80))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=0.02)


def test_training_changes_the_new_layers_and_the_trunk(work):
    found = load_file(work.store.get(affinity_stage().key) / "model.safetensors")
    torch.manual_seed(0)
    before = affinity_network.build(PSA.network).state_dict()
    assert found.keys() == before.keys()
    for name in ("f9.weight", "f8_3.weight", "b4.conv_branch2a.weight", "conv1a.weight", "bn7.running_mean"):
        assert not torch.equal(found[name], before[name]), name


def test_a_trained_network_can_be_given_instead(work, tmp_path):
    trained = labels_stage()
    file = work.store.get(trained.inputs["affinity"].key) / "model.safetensors"
    given = labels_stage(dataclasses.replace(PSA, trained=str(file)))
    assert list(given.inputs) == ["cams"]
    assert given.key != trained.key
    assert [entry for entry in work.digests(given) if entry[0].startswith("labels/")] == [
        entry for entry in work.digests(trained) if entry[0].startswith("labels/")
    ]
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(file.read_bytes())
    assert labels_stage(dataclasses.replace(PSA, trained=str(copy))).key == given.key


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_s", [60.0, 0.0], ids=["every epoch", "every step"])
def test_a_killed_training_continues_exactly(work, tmp_path, checkpoint_s):
    stage = affinity_stage(changed("train", epochs=3, momentum=0.9))
    expected = work.digests(stage)
    killed = Work(tmp_path, die_after=2, checkpoint_s=checkpoint_s)
    killed.dying = "train_affinity"
    with pytest.raises(Killed):
        killed.runner.run(stage)
    assert list((tmp_path / "store" / "checkpoints").glob("train_affinity*"))
    assert Work(tmp_path, checkpoint_s=checkpoint_s).digests(stage) == expected


@pytest.mark.slow
def test_a_training_stopped_in_an_epoch_continues_exactly(work, tmp_path):
    stage = affinity_stage(changed("train", epochs=2, momentum=0.9))
    expected, stopping = work.digests(stage), Work(tmp_path)
    stopping.runner.run(stage.inputs["scores"])
    asked = []
    stopping.runner.stop = lambda: asked.append(None) or len(asked) == 3
    with pytest.raises(Interrupted):
        stopping.runner.run(stage)
    assert Work(tmp_path).digests(stage) == expected


def test_scores_on_disk_are_the_cams_and_their_backgrounds(work):
    stage = affinity_stage().inputs["scores"]
    folder = work.store.get(stage.key)
    dataset = build_dataset(DATA)
    for image_id in dataset.ids("train"):
        classes = int(dataset.labels(image_id).sum())
        low, high = read_scores(affinity_scores.scores_file(folder, image_id), (80, 80))
        assert len(low) == 1 + classes
        np.testing.assert_array_equal(low[1:], high[1:])
        strongest = low[1:].max(axis=0, initial=0)
        np.testing.assert_allclose(low[0], 1 - strongest, atol=1 / 255)
        np.testing.assert_allclose(high[0], (1 - strongest) ** 12, atol=6.5 / 255)


def test_scores_survive_the_file(tmp_path):
    scores = np.random.default_rng(0).random((2, 3, 3, 5)).astype(np.float32)
    write_scores(tmp_path / "a", scores)
    np.testing.assert_allclose(read_scores(tmp_path / "a", (3, 5)), scores, atol=0.5 / 255 + 1e-6)
    with pytest.raises(DataError, match="holds 90 scores; need pairs of maps of 4 x 5"):
        read_scores(tmp_path / "a", (4, 5))
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-5])
    with pytest.raises(DataError, match="holds no scores"):
        read_scores(tmp_path / "a", (3, 5))


class Gpu:
    def forget_peak(self) -> None: ...

    def peak(self) -> int:
        return 5


@pytest.mark.slow
def test_a_rehearsal_trains_the_network_too():
    """That is what the memory of a GPU may be too small for, and one that fails is told before any trial."""
    trial = with_psa()
    train, cams = training_stage(trial, fingerprint), variant_stages(trial, fingerprint).cams
    assert rehearsal.peak_bytes(train.config, cams.config, Runtime(), Gpu(), [affinity_stage()]) == 5
    hot = affinity_stage(changed("train", lr=1e30))
    with pytest.raises(DivergedError, match="not finite in epoch 1, step"):
        rehearsal.peak_bytes(train.config, cams.config, Runtime(), Gpu(), [hot])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": 64}, "crop: need a multiple of 8 in 72"),
        ({"crop": 76}, "crop: need a multiple of 8"),
        ({"momentum": 1.0}, "momentum: need"),
        ({"epochs": 0}, "epochs: need"),
        ({"color_jitter": (0.3, 0.3, 0.3, 0.6)}, "color_jitter: need"),
        ({"precision": "fp64"}, "precision: allowed"),
    ],
)
def test_impossible_trainings_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        AffinityTraining(**values)
