"""What every dataset promises, over all that there are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from failing_disk import failing_at
from small_coco import write_coco, write_coco2017
from small_folder import names_csv, write_folder
from small_voc import write_voc

from aream import datasets, discover
from aream.data.dataset import Dataset
from aream.data.decoded import DecodedOnce, OwnImages
from aream.data.examination import inspect
from aream.errors import DataUnavailable
from aream.metrics import IGNORE

MAKERS = {
    "coco2014": lambda folder: {"root": str(write_coco(folder / "coco"))},
    "coco2017": lambda folder: {"root": str(write_coco2017(folder / "coco"))},
    "folder": lambda folder: settings_of_folder(folder / "own"),
    "shapes": lambda folder: {"image_size": 32, "train_images": 6, "val_images": 3},
    "voc2012": lambda folder: {"root": str(write_voc(folder / "voc", train=6, val=3))},
}
"""Writes the files of a small one, where it needs any; its settings."""


def settings_of_folder(root: Path) -> dict[str, str]:
    names_csv(root / "labels.csv", write_folder(root))
    return {"root": str(root), "images": "images", "masks": "masks", "labels": "labels.csv", "classes": "classes.txt"}


@pytest.fixture(params=discover.names(datasets))
def build(request, tmp_path: Path) -> Callable[[], Dataset]:
    module = discover.load(datasets, request.param)
    if hasattr(module, "contract_config"):
        return functools.partial(module.build, module.contract_config(tmp_path))
    assert request.param in MAKERS, f"say in MAKERS or contract_config(folder) how a small {request.param} is made"
    return functools.partial(module.build, module.Config(**MAKERS[request.param](tmp_path)))


@pytest.fixture
def dataset(build) -> Dataset:
    return build()


def test_images_labels_and_masks_agree(dataset):
    assert isinstance(dataset, Dataset)
    names, scored = list(dataset.class_names), list(dataset.scored_classes)
    assert len(set(names)) == len(names) > 0
    assert set(scored) <= set(range(len(names) + 1))
    every = [image_id for split in ("train", "val") for image_id in dataset.ids(split)]
    assert len(set(every)) == len(every) > 1
    for image_id in every:
        assert re.fullmatch(r"[\w.+-]+", image_id), "is a file name"
        image, labels, mask = dataset.image(image_id), dataset.labels(image_id), dataset.mask(image_id)
        assert image.mode == "RGB"
        assert (labels.dtype, labels.shape) == (np.float32, (len(names),))
        assert set(np.unique(labels)) <= {0, 1}
        (size, digest), seen = dataset.look_at_image(image_id), dataset.look_at_mask(image_id)
        assert size == image.size
        assert digest == dataset.look_at_image(image_id)[1]
        assert (mask is None) == (seen is None)
        if mask is not None and seen is not None:
            assert (mask.dtype, mask.shape) == (np.uint8, image.size[::-1])
            assert set(np.unique(mask)) <= {*range(len(names) + 1), IGNORE}
            np.testing.assert_array_equal(mask, seen[0])
    assert any(dataset.mask(image_id) is not None for image_id in dataset.ids("train"))


def test_it_travels_without_pixels_and_is_the_same_there(dataset):
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000
    there = pickle.loads(sent)
    assert inspect(there) == inspect(dataset)
    for split in ("train", "val"):
        assert list(there.ids(split)) == list(dataset.ids(split))
        for image_id in there.ids(split):
            np.testing.assert_array_equal(np.array(there.image(image_id)), np.array(dataset.image(image_id)))


def test_its_images_are_the_same_decoded_once(dataset):
    once = DecodedOnce(dataset, OwnImages(10**9))
    assert isinstance(once, Dataset)
    for _ in range(2):
        for image_id in once.ids("train"):
            image = once.image(image_id)
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.array(image), np.array(dataset.image(image_id)))


def test_settings_are_data():
    for name in discover.names(datasets):
        assert dataclasses.is_dataclass(discover.load(datasets, name).Config)


@pytest.mark.slow
def test_a_disk_that_fails_is_no_fault_of_the_data(build, tmp_path):
    """Whichever call it is that fails: another try reads what was there all along."""

    def all_of_it() -> tuple[str, list[bytes]]:
        read = build()
        return inspect(read), [read.image(read.ids(split)[0]).tobytes() for split in ("train", "val")]

    undisturbed = all_of_it()
    for number in itertools.count(1):
        with failing_at(number, tmp_path) as failed:
            try:
                seen = all_of_it()
            except (DataUnavailable, OSError):
                continue
        assert seen == undisturbed, failed
        if not failed:
            break
