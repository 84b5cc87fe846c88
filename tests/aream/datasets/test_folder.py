"""Somebody's own folder: the same labels whichever way they are kept, and names that mean one image."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from small_folder import (
    NAMES,
    coco_json,
    config,
    names_csv,
    names_json,
    npy_dict,
    one_hot_csv,
    refused,
    write_folder,
    xml_folder,
)  # fmt: skip

from aream.config import Component, canonical
from aream.data.examination import inspect
from aream.datasets import folder

WRITERS = {
    "l.csv": names_csv, "hot.csv": one_hot_csv, "hot.tsv": one_hot_csv, "l.json": names_json, "coco.json": coco_json,
    "Annotations": xml_folder, "l.npy": npy_dict,
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return tmp_path / "own"


def test_labels_are_the_same_whichever_way_they_are_kept(root):
    labels = write_folder(root)
    found = {}
    for name, write in WRITERS.items():
        dataset = folder.build(config(root, write(root / name, labels)))
        for split in ("train", "val"):
            for one in dataset.ids(split):
                names = labels[dataset.image_path(one).name]
                assert [NAMES[k] for k in np.flatnonzero(dataset.labels(one))] == names
        found[name] = inspect(dataset)
    dataset = folder.build(config(root, "from_masks"))
    assert {*found.values(), inspect(dataset)} == {found["l.csv"]}
    assert len(dataset.ids("train")) + len(dataset.ids("val")) == 12


def test_how_it_is_said_is_no_part_of_an_identity(root):
    labels = write_folder(root)
    names_csv(root / "l.csv", labels)
    first, second = config(root, "l.csv"), config(root, "from_masks", classes=NAMES, images="images/*.*")
    assert canonical(Component(name="folder", config=first)) == canonical(Component(name="folder", config=second))
    assert first != second
    assert repr(first) != repr(second), "machines remember what they read by it"
    renamed = config(root, "from_masks", classes=("a", "b", "c"))
    assert inspect(folder.build(renamed)) != inspect(folder.build(first))


def test_a_folder_a_class(root):
    labels = write_folder(root, masked=0)
    shutil.rmtree(root / "masks")
    for name, found in labels.items():
        (root / "sorted" / found[0]).mkdir(parents=True, exist_ok=True)
        (root / "images" / name).rename(root / "sorted" / found[0] / name)
    (root / "sorted" / "normal").mkdir()
    Image.new("RGB", (8, 8)).save(root / "sorted" / "normal" / "nothing.png")
    given = config(root, "folders", images="sorted", masks=None, classes=None, no_class=("normal",))
    dataset = folder.build(given)
    assert list(dataset.class_names) == sorted(NAMES)
    every = [one for split in ("train", "val") for one in dataset.ids(split)]
    assert len(every) == 13
    for one in every:
        above = dataset.image_path(one).parent.name
        assert [dataset.class_names[k] for k in np.flatnonzero(dataset.labels(one))] == [above] * (above != "normal")


def test_one_name_for_two_images_is_refused(root):
    labels = write_folder(root)
    Image.new("RGB", (8, 8)).save(root / "images" / "case 001.jpg")
    names_csv(root / "l.csv", labels)
    refused(config(root, "l.csv"), "images/case 001.jpg and images/case 001.png")


def test_a_name_that_may_be_two_images_is_refused(root):
    labels = write_folder(root)
    for use in ("a", "b"):
        (root / "images" / use).mkdir()
        Image.new("RGB", (8, 8)).save(root / "images" / use / "x.png")
    names_csv(root / "l.csv", labels | {"x.png": ["polyp"]})
    refused(config(root, "l.csv"), "l.csv:14", "may be images/a/x.png or images/b/x.png")
    names_csv(root / "l.csv", labels | {"a/x.png": ["polyp"], "images/b/x.png": ["ulcer"]})
    dataset = folder.build(config(root, "l.csv", masks=None))
    (one,) = [i for split in ("train", "val") for i in dataset.ids(split) if i == "b__x"]
    assert dataset.labels(one).tolist() == [0, 1, 0]


def test_links_out_of_the_folder_are_refused(root, tmp_path):
    labels = write_folder(root)
    names_csv(root / "l.csv", labels)
    (root / "images" / "case 000.jpg").rename(tmp_path / "elsewhere.jpg")
    (root / "images" / "case 000.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    refused(config(root, "l.csv"), "case 000.jpg: is a link to")
    (root / "circle").symlink_to(root)
    (root / "images" / "case 000.jpg").unlink()
    folder.build(config(root, "l.csv", images="**"))
