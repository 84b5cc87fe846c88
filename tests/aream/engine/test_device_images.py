"""Images that stay on the device: the same batches, fewer images on their way, and memory given back to a step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_networks import CONFIG, CPU, host
from small_trials import TRIAL
from small_voc import write_voc

from aream import augmentations, discover
from aream.augmentations import deit_on_device
from aream.bank import Bank
from aream.config import Component, plain
from aream.data.decoded import DecodedOnce, OwnImages
from aream.datasets import shapes, voc2012
from aream.engine.batches import TrainingBatches
from aream.engine.device_images import DeviceImages
from aream.engine.loading import Loading
from aream.errors import ConfigError, OutOfMemory
from aream.train import Training
from workers.pipelines import training_stage

TRAIN, BATCH, BYTES = 12, 4, 48 * 64 * 3
ON_DEVICE = Component(name="deit_on_device", config=deit_on_device.Config())
ENOUGH = 1 << 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = write_voc(tmp_path_factory.mktemp("voc") / "VOC2012", TRAIN, 4)
    return voc2012.build(voc2012.Config(root=str(root)))


def batches(dataset, kept=None, workers=0, augmentation=ON_DEVICE, epochs=3, after=lambda number: None):
    made = TrainingBatches(
        dataset, side=40, batch_size=BATCH, augmentation=augmentation, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4),
        seed=3, loading=Loading(workers), kept=kept,
    )  # fmt: skip
    found = []
    for epoch in range(epochs):
        for batch in made.epoch(epoch):
            found.append((batch.ids, batch.images, batch.labels))
            after(len(found))
    made.loader.close()
    return found


def same(found, expected) -> bool:
    return len(found) == len(expected) > 0 and all(
        one[0] == other[0] and torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_all_but_the_first_batch_stay_and_are_read_no_more(files, workers):
    images, kept = OwnImages(10**9), DeviceImages(lambda: ENOUGH)
    dataset, on_the_way = DecodedOnce(files, images), []
    found = batches(dataset, kept, workers, after=lambda number: on_the_way.append(images.read + images.decoded))
    assert same(found, batches(files))
    assert len(kept.images) == TRAIN
    assert kept.bytes == TRAIN * BYTES
    both_epochs = on_the_way[5]
    assert both_epochs - on_the_way[2] == BATCH, "the second epoch asks for those of the first batch"
    assert on_the_way[8] == both_epochs


@pytest.mark.parametrize("workers", [0, 2])
def test_room_for_a_batch(files, workers):
    kept = DeviceImages(lambda: int(2 * BATCH * BYTES) + 8)  # half of it
    assert same(batches(files, kept, workers), batches(files))
    assert kept.bytes == BATCH * BYTES
    assert len(kept.images) == BATCH


@pytest.mark.parametrize("left", [0, -5])
def test_no_room(files, left):
    kept = DeviceImages(lambda: left)
    assert same(batches(files, kept), batches(files))
    assert not kept.images
    assert not kept.let_go()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("at", [4, 5, 7])
def test_images_that_leave_while_batches_are_on_their_way(files, workers, at):
    kept = DeviceImages(lambda: ENOUGH)
    found = batches(files, kept, workers, after=lambda number: number == at and kept.let_go())
    assert same(found, batches(files))
    assert not kept.images, "they do not come back"


@pytest.mark.parametrize("name", sorted(set(discover.names(augmentations)) - {"deit_on_device"}))
def test_what_is_changed_elsewhere_stays_nowhere(files, name):
    component = Component(name=name, config=discover.load(augmentations, name).Config())
    kept = DeviceImages(lambda: ENOUGH)
    assert same(batches(files, kept, augmentation=component), batches(files, augmentation=component))
    assert not kept.images


def trained(kept=None, most=10**6, fails=()):
    """Weights after two epochs of a host that finds no memory in some of its steps, once each."""
    dataset = shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))
    torch.manual_seed(1)
    config = dataclasses.replace(CONFIG, augmentation=ON_DEVICE)
    training = Training(host(most, drop_path=0.5), None, dataset, config, 0, device=CPU, kept_images=kept)
    original, left = training.gradients, list(fails)

    def gradients(batch, size, place):
        training.backbone.most = 0 if place in left else most
        if place in left:
            left.remove(place)
        return original(batch, size, place)

    training.gradients = gradients
    training.run(2, report=lambda row: None)
    return [*training.backbone.state_dict().values()]


def test_a_step_without_memory_takes_theirs_and_is_done_again():
    """Also where the policy allows no smaller pieces."""
    expected = trained()
    kept = DeviceImages(lambda: ENOUGH)
    assert all(map(torch.equal, trained(kept), expected))
    assert kept.bytes
    kept = DeviceImages(lambda: ENOUGH)
    assert all(map(torch.equal, trained(kept, fails=["epoch 2, step 1"]), expected))
    assert (kept.bytes, kept.images) == (0, {})


@pytest.mark.parametrize("place", ["epoch 1, step 1", "epoch 2, step 1"])
def test_what_they_do_not_help_is_refused(place):
    kept = DeviceImages(lambda: ENOUGH)
    with pytest.raises(OutOfMemory, match=place):
        trained(kept, fails=[place, place])
    assert not kept.bytes


def test_of_a_bank_any_training_may_ask_for_their_memory():
    dataset = shapes.build(shapes.Config(image_size=32, train_images=14, val_images=4))
    kept, bank, config = DeviceImages(lambda: ENOUGH), Bank(), dataclasses.replace(CONFIG, augmentation=ON_DEVICE)
    trainings = [
        Training(host(), None, dataset, config, 0, device=CPU, kept_images=images)
        for images in (kept, DeviceImages(lambda: ENOUGH))
    ]
    for training in trainings:
        bank.add(training, training.moves(2, report=lambda row: None))
    bank.run()
    assert all(training.pieces.spare is kept for training in trainings)
    assert kept.bytes


def with_data(**changes):
    data = Component(name="voc2012", config=voc2012.Config(root="/nowhere", **changes))
    return dataclasses.replace(TRIAL, data=data)


def of_no_files(component):
    return component.name


def test_an_augmentation_on_the_cpu_is_refused():
    trial = with_data(cache="device")
    with pytest.raises(ConfigError, match=r"data.cache: device .*train.augmentation deit changes .*deit_on_device"):
        training_stage(trial, of_no_files)
    there = dataclasses.replace(trial, train=dataclasses.replace(trial.train, augmentation=ON_DEVICE))
    elsewhere = dataclasses.replace(there, data=with_data(cache="memory").data)
    assert plain(there.data) != plain(elsewhere.data)
    assert training_stage(there, of_no_files).key == training_stage(elsewhere, of_no_files).key
