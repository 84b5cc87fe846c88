"""Images that are decoded once: the same bytes, also where some are lost, refused, or decoded in other processes."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from small_voc import write_voc

from aream import augmentations, discover
from aream.config import Component, canonical
from aream.data.decoded import DecodedOnce, OwnImages
from aream.datasets import voc2012
from aream.engine.batches import TrainingBatches
from aream.engine.loading import Loading
from workers.components import build_dataset
from workers.processes.runtime import Runtime

TRAIN, VAL, BYTES = 12, 4, 48 * 64 * 3
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(write_voc(tmp_path_factory.mktemp("voc") / "VOC2012", TRAIN, VAL))


@pytest.fixture
def plain(root):
    return voc2012.build(voc2012.Config(root=root))


def epochs(dataset, name: str, workers: int = 0, count: int = 3) -> list[torch.Tensor]:
    module = discover.load(augmentations, name)
    made = TrainingBatches(
        dataset, side=40, batch_size=4, augmentation=Component(name=name, config=module.Config()), mean=MEAN, std=STD,
        seed=3, loading=Loading(workers),
    )  # fmt: skip
    found = [batch.images for epoch in range(count) for batch in made.epoch(epoch)]
    made.loader.close()
    return found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", discover.names(augmentations))
def test_every_augmentation_makes_the_same_of_them(plain, name, workers):
    images = OwnImages(10**9)
    found = epochs(DecodedOnce(plain, images), name, workers)
    assert all(torch.equal(a, b) for a, b in zip(epochs(plain, name), found, strict=True))
    first = 1 if workers else 0  # made here, for what it takes of the shared memory, before there are processes
    assert (images.decoded, len(images.at_hand())) == (TRAIN, TRAIN)
    assert images.read >= 2 * TRAIN - first


@pytest.mark.parametrize("workers", [0, 2])
def test_what_has_no_room_or_is_lost_is_decoded_again(plain, workers):
    expected = epochs(plain, "deit")
    few = OwnImages(5 * BYTES)
    found = epochs(DecodedOnce(plain, few), "deit", workers)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert (len(few.images), few.bytes) == (5, 5 * BYTES)
    assert few.decoded > TRAIN

    class Forgetful(OwnImages):
        def get(self, image_id):
            return None

    found = epochs(DecodedOnce(plain, Forgetful(10**9)), "deit", workers)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def shared_files() -> int:
    """Parts of /dev/shm that loaders handed over and this process holds."""
    gc.collect()
    return sum("/torch_" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_what_is_kept_takes_no_room_of_what_loaders_hand_over_in(plain):
    before, images = shared_files(), OwnImages(10**9)
    epochs(DecodedOnce(plain, images), "deit", workers=2)
    assert len(images.images) == TRAIN
    assert shared_files() == before


@pytest.mark.parametrize("room", [10**9, 0], ids=["kept", "not kept"])
def test_what_loaders_decode_counts_for_the_shared_memory(plain, room):
    """Three batches of two processes, of squares alone or with the images that they were made of."""
    squares, decoded = 4 * 4 * 40 * 40 * 3, 4 * BYTES
    shared = int(5.5 * squares / 0.8)
    assert shared < 5 * (squares + decoded) / 0.8
    module = discover.load(augmentations, "deit")
    made = TrainingBatches(
        DecodedOnce(plain, OwnImages(room)), side=40, batch_size=4,
        augmentation=Component(name="deit", config=module.Config()), mean=MEAN, std=STD, seed=3,
        loading=Loading(2, shared_room=lambda: shared),
    )  # fmt: skip
    before, batches = {child.pid for child in psutil.Process().children()}, made.epoch(0)
    next(batches)
    assert len({child.pid for child in psutil.Process().children()} - before) == 1
    batches.close()


def build(root: str, room: int, **settings):
    images = OwnImages(room)
    component = Component(name="voc2012", config=voc2012.Config(root=root, **settings))
    return build_dataset(component, Runtime(images=lambda: images)), images


def test_the_setting_says_whether_and_a_set_that_does_not_fit_is_not_kept(root):
    whole = (TRAIN + VAL) * BYTES
    assert isinstance(build(root, whole)[0], DecodedOnce)
    assert not isinstance(build(root, whole - 1)[0], DecodedOnce)
    assert isinstance(build(root, whole - 1, cache="memory")[0], DecodedOnce)
    assert not isinstance(build(root, whole, cache="none")[0], DecodedOnce)


def test_the_estimate_of_a_large_set_reads_few_images(plain):
    plain.splits["train"] = plain.splits["train"] * 50
    images = OwnImages(10**9)
    assert DecodedOnce(plain, images).expected_bytes() == (50 * TRAIN + VAL) * BYTES
    assert images.decoded <= 16 + VAL


def test_the_setting_is_no_part_of_what_a_dataset_is(root):
    one, other = (voc2012.Config(root=root, cache=cache) for cache in ("none", "memory"))
    assert canonical(one) == canonical(other) == canonical(voc2012.Config(root="/elsewhere"))
    assert one == other
    assert repr(one) == repr(other)


def test_all_else_is_the_datasets(plain):
    once = DecodedOnce(plain, OwnImages(10**9))
    assert list(once.class_names) == list(plain.class_names)
    assert list(once.scored_classes) == list(plain.scored_classes)
    for image_id in once.ids("val"):
        for _ in range(2):
            np.testing.assert_array_equal(np.array(once.image(image_id)), np.array(plain.image(image_id)))
        np.testing.assert_array_equal(once.labels(image_id), plain.labels(image_id))
        np.testing.assert_array_equal(once.mask(image_id), plain.mask(image_id))
        assert once.look_at_image(image_id) == plain.look_at_image(image_id)
        np.testing.assert_array_equal(once.look_at_mask(image_id)[0], plain.look_at_mask(image_id)[0])
