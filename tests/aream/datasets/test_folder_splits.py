"""Splits of somebody's own folder, and the images that are in none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_folder import config, names_csv, refused, scene, write_folder, xml_folder

from aream.data.findings import Findings
from aream.datasets import folder
from aream.datasets.folder import Split


@pytest.fixture
def root(tmp_path):
    return tmp_path / "own"


def test_val_stays_val_when_images_are_added(root):
    labels = write_folder(root, count=60)
    names_csv(root / "l.csv", labels)
    split = Split(val=0.3, seed=4)
    before = folder.build(config(root, "l.csv", split=split))
    assert 9 <= len(before.ids("val")) <= 27
    more = {f"new {k}.png": ["ulcer"] for k in range(30)}
    for name in more:
        pixels, mask = scene(np.random.default_rng(len(name)), [1])
        Image.fromarray(pixels).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    names_csv(root / "l.csv", labels | more)
    after = folder.build(config(root, "l.csv", split=split))
    assert set(before.ids("val")) <= set(after.ids("val"))
    assert set(before.ids("train")) <= set(after.ids("train"))
    assert set(before.ids("val")) != set(folder.build(config(root, "l.csv", split=Split(val=0.3, seed=5))).ids("val"))


def test_val_has_masks_where_some_images_have(root):
    names_csv(root / "l.csv", write_folder(root, count=40, masked=15))
    dataset = folder.build(config(root, "l.csv", split=Split(val=0.5)))
    assert len(dataset.ids("train")) + len(dataset.ids("val")) == 40
    assert 0 < len(dataset.ids("val")) <= 15
    assert all(dataset.mask(one) is not None for one in dataset.ids("val"))


def test_splits_from_lists_folders_and_a_column(root):
    labels = write_folder(root)
    names, ids = list(labels), {}
    (root / "train.txt").write_text("\r\n".join(names[:7]))
    (root / "val.txt").write_text("\n".join(Path(name).stem for name in names[7:10]))
    with (root / "l.csv").open("w", newline="") as file:
        uses = ["train"] * 7 + ["validation"] * 3 + ["test", "test"]
        rows = [(name, use, "|".join(labels[name])) for name, use in zip(names, uses, strict=True)]
        csv.writer(file).writerows([("name", "use", "tags"), *rows])
    for split in (Split(train="train.txt", val="val.txt"), Split(column="use")):
        found = Findings()
        dataset = folder.survey(
            config(root, "l.csv" if split.column else names_csv(root / "n.csv", labels), split=split), found
        )
        ids[split.column] = (list(dataset.ids("train")), list(dataset.ids("val")))
        assert [len(part) for part in ids[split.column]] == [7, 3]
        assert [Path(path).name for path in found.left_out] == names[10:]
        assert dict(dataset.left_out) == found.left_out
    assert ids[None] == ids["use"]
    for use, part in (("a", names[:9]), ("b", names[9:])):
        (root / "images" / use).mkdir()
        for name in part:
            (root / "images" / name).rename(root / "images" / use / name)
    dataset = folder.build(config(root, "n.csv", split=Split(train="images/a", val="images/b")))
    assert (len(dataset.ids("train")), len(dataset.ids("val"))) == (9, 3)
    assert all(one.startswith("b--") or one.startswith("b__") for one in dataset.ids("val"))


def test_every_image_left_out_is_counted_and_named(root):
    labels = write_folder(root)
    names_csv(root / "l.csv", dict(list(labels.items())[:9]) | {"gone.jpg": ["polyp"]})
    (root / "images" / "._case 001.png").write_bytes(b"of a file manager")
    (root / "masks" / "nobody.png").write_bytes((root / "masks" / "case 001.png").read_bytes())
    found = Findings()
    dataset = folder.survey(config(root, "l.csv"), found)
    kinds = {one.kind: one.count for one in found}
    assert kinds["images have no labels"] == 3
    assert kinds["labels are of no image"] == 1
    assert kinds["masks have no image"] == 1
    left = {Path(path).name for path in found.left_out}
    used = {dataset.image_path(one).name for split in ("train", "val") for one in dataset.ids(split)}
    assert left == {*list(labels)[9:], "._case 001.png"}
    assert left | used == {path.name for path in (root / "images").iterdir()}
    assert not found.hard
    refused(config(root, "l.csv", missing="refuse"), "l.csv:11", "'gone.jpg'")


def test_a_folder_is_the_same_however_its_path_is_written(root):
    labels = write_folder(root)
    xml_folder(root / "xml", labels)
    (root / "images" / "kept").mkdir()
    for name in list(labels)[:3]:
        (root / "images" / name).rename(root / "images" / "kept" / name)
    for path in ("{}", "./{}", "{}/", "{}//", "./{}/"):
        given = {key: path.format(key) for key in ("images", "masks")}
        dataset = folder.build(config(root, path.format("xml"), split=Split(val=path.format("images/kept")), **given))
        assert (len(dataset.ids("train")), len(dataset.ids("val"))) == (9, 3), path
