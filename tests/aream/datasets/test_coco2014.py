from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from small_coco import CLASSES, SIZE, TRAIN, VAL, mask_of, one_hot, write_coco

from aream.data.dataset import Dataset
from aream.data.examination import inspect
from aream.data.findings import Findings
from aream.data.lists import read_split
from aream.datasets import coco2014
from aream.datasets._coco_classes import CLASS_NAMES, category_ids
from aream.errors import ConfigError, DataError

OBJECTS = [name for name in CLASSES if CLASSES[name]]
OFFICIAL = {1: "person", 11: "fire hydrant", 13: "stop sign", 16: "bird", 44: "bottle", 62: "chair", 67: "dining table"}
OFFICIAL |= {70: "toilet", 72: "tv", 81: "sink", 82: "refrigerator", 84: "book", 90: "toothbrush"}
"""Some numbers of COCO's annotations, from its category list."""


def official(k: int) -> int:
    """The number in COCO's annotations, counted past the gaps."""
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    return [number for number in range(1, 91) if number not in gaps][k]


def build(root, **changes):
    return coco2014.build(coco2014.Config(root=str(root), **changes))


def fails(root, *messages, **changes):
    with pytest.raises(DataError) as caught:
        inspect(build(root, **changes))
    for message in messages:
        assert message in str(caught.value)


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco")


def test_reads_images_masks_and_labels(root):
    dataset = build(root)
    assert isinstance(dataset, Dataset)
    assert len(dataset.class_names) == len(set(dataset.class_names)) == 80
    assert list(dataset.scored_classes) == list(range(81))
    for name in OBJECTS:
        assert dataset.image(name).size == SIZE[::-1]
        np.testing.assert_array_equal(dataset.labels(name), one_hot(CLASSES[name]))
        np.testing.assert_array_equal(dataset.mask(name), mask_of(CLASSES[name]))
    assert len(pickle.dumps(dataset)) < 5000


@pytest.mark.parametrize("base", [".", "coco2014"])
@pytest.mark.parametrize("images", ["{}2014", "JPEGImages/{}", "JPEGImages/{}2014"])
@pytest.mark.parametrize("masks", ["SegmentationClass/{}", "SegmentationClass/{}2014"])
@pytest.mark.parametrize("mask_name", [lambda name: name, lambda name: name[-12:]], ids=["full", "number"])
def test_every_layout_is_the_same_dataset(tmp_path, root, base, images, masks, mask_name):
    write_coco(tmp_path / "other" / base, images, masks, mask_name=mask_name)
    assert inspect(build(tmp_path / "other")) == inspect(build(root))


def test_the_fingerprint_is_that_of_the_content(root, tmp_path):
    first = inspect(build(root))
    shutil.copytree(root, tmp_path / "elsewhere")
    assert inspect(build(tmp_path / "elsewhere")) == first
    Image.new("L", SIZE[::-1]).save(root / f"SegmentationClass/train2014/{TRAIN[0]}.png")
    assert inspect(build(root)) != first


@pytest.mark.parametrize("number", [lambda k: k + 1, official], ids=["contiguous", "coco91"])
@pytest.mark.parametrize("told", [True, False])
def test_masks_of_both_numberings(tmp_path, number, told):
    root = write_coco(tmp_path / "coco", number=number)
    chosen = "auto" if told else ("coco91" if number is official else "contiguous")
    dataset = build(root, mask_ids=chosen)
    for name in OBJECTS:
        np.testing.assert_array_equal(dataset.mask(name), mask_of(CLASSES[name]))
    assert inspect(dataset)


def test_numbers_of_the_annotations():
    ids = category_ids()
    for number, name in OFFICIAL.items():
        assert CLASS_NAMES[ids[number] - 1] == name
    assert sorted(ids[ids >= 0]) == [*range(81), 255]


def test_masks_of_the_other_numbering_are_refused(tmp_path):
    root = write_coco(tmp_path / "coco", number=official)
    fails(root, "label ids [81] are out of range; allowed are 0..80 and 255", mask_ids="contiguous")
    other = write_coco(tmp_path / "other")
    Image.new("L", SIZE[::-1], 12).save(other / f"SegmentationClass/train2014/{TRAIN[0]}.png")
    fails(other, "label ids [12] are out of range; allowed are 0..11, 13..25", mask_ids="coco91")


def test_a_palette_is_no_colour(root):
    path = root / f"SegmentationClass/val2014/{VAL[0]}.png"
    image = Image.open(path)
    image.putpalette(np.random.default_rng(0).integers(0, 255, 768, dtype=np.uint8).tolist())
    image.save(path)
    np.testing.assert_array_equal(build(root).mask(VAL[0]), mask_of(CLASSES[VAL[0]]))


@pytest.mark.parametrize("name", ["train.txt", "train_id.txt", "train_labels.txt", "train2014.txt"])
@pytest.mark.parametrize("folder", [".", "ImageSets", "ImageSets/Segmentation", "coco2014"])
def test_every_place_of_lists(root, name, folder):
    text = (root / "train.txt").read_text()
    (root / "train.txt").unlink()
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / name).write_text(text)
    assert list(build(root).ids("train")) == TRAIN[:2]


@pytest.mark.parametrize(
    "line",
    [
        "{0}",
        "{0}.jpg",
        "{1}",
        "{2}",
        "/JPEGImages/train/{0}.jpg /SegmentationClass/train/{0}.png",
        "JPEGImages/train2014/{0}.jpg SegmentationClass/train2014/{0}.png",
        "train2014/{0}.jpg",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_every_list_format(root, line, end):
    np.save(root / "cls_labels.npy", {name: one_hot(CLASSES[name]) for name in CLASSES})
    lines = [line.format(name, name[-12:], int(name[-12:])) for name in TRAIN]
    (root / "train.txt").write_bytes(end.join(lines).encode())
    assert list(build(root, objectless="keep").ids("train")) == TRAIN


def test_a_train_list_may_take_images_of_val(root):
    (root / "train.txt").write_text(f"{TRAIN[0]} 3\n{VAL[0]} 16\n")
    (root / "val.txt").write_text(f"{VAL[1]} 71 3\n")
    dataset = build(root)
    assert list(dataset.ids("train")) == [TRAIN[0], VAL[0]]
    np.testing.assert_array_equal(dataset.mask(VAL[0]), mask_of(CLASSES[VAL[0]]))


@pytest.mark.parametrize("form", ["plain", "jpg", "number", "onehot", "npz"])
def test_every_label_file(root, form):
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (root / f"{part}.txt").write_text("\n".join(ids))
    labels = {name: one_hot(CLASSES[name]) for name in CLASSES}
    if form == "npz":
        np.savez(root / "cls_labels.npz", ids=list(labels), labels=np.stack(list(labels.values())))
    elif form == "onehot":
        np.save(root / "cls_labels_onehot.npy", {name: value.astype(np.uint8) for name, value in labels.items()})
    else:
        key = {"plain": str, "jpg": lambda name: f"{name}.jpg", "number": lambda name: int(name[-12:])}[form]
        np.save(root / "cls_labels.npy", {key(name): value for name, value in labels.items()})
    dataset = build(root)
    for name in OBJECTS:
        np.testing.assert_array_equal(dataset.labels(name), labels[name])


def test_a_label_file_that_is_named_goes_before_the_lists(root, tmp_path):
    np.save(tmp_path / "mine.npy", {name: one_hot((5,)) for name in CLASSES})
    dataset = build(root, labels_file=str(tmp_path / "mine.npy"))
    assert [np.flatnonzero(dataset.labels(name)).tolist() for name in TRAIN] == [[5]] * 3


def test_images_without_any_object(root):
    assert list(build(root).ids("train")) == TRAIN[:2]
    kept = build(root, objectless="keep")
    assert [list(kept.ids(split)) for split in ("train", "val")] == [TRAIN, VAL]
    assert kept.labels(TRAIN[2]).sum() == 0
    assert inspect(kept) != inspect(build(root))


def test_labels_that_are_missing(root):
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (root / f"{part}.txt").write_text("\n".join(ids))
    np.save(root / "cls_labels.npy", {name: one_hot(CLASSES[name]) for name in OBJECTS})
    fails(root, f"no labels for {TRAIN[2]}", f"no labels for {VAL[2]}")
    assert list(build(root, missing_labels="objectless").ids("train")) == TRAIN[:2]
    assert list(build(root, missing_labels="objectless", objectless="keep").ids("train")) == TRAIN
    (root / "cls_labels.npy").unlink()
    fails(root, "no image labels; the train list has no classes beside its ids, and none of cls_labels.npy")


def test_grey_images_have_three_channels(root):
    path = root / f"train2014/{TRAIN[0]}.jpg"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(SIZE)).save(path)
    pixels = np.array(build(root).image(TRAIN[0]))
    assert pixels.shape == (*SIZE, 3)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    assert inspect(build(root))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("train", 82081), ("val", 40137)])
def test_the_published_lists_are_read_whole(data_root, name, count):
    found = Findings()
    listed = read_split(
        f"{name}_labels.txt",
        (),
        [data_root / "lists/coco14"],
        found,
        name,
        lambda stem: coco2014._full_id(stem, name),
        80,
    )
    assert not list(found)
    assert len(listed.ids) == len(listed.classes) == count
    assert all(image_id.startswith(f"COCO_{name}2014_") for image_id in listed.ids)
    assert {k for classes in listed.classes.values() for k in classes} == set(range(80))
    assert min(len(classes) for classes in listed.classes.values()) == 1


def test_what_is_missing_is_named(root, tmp_path):
    fails(tmp_path / "nowhere", "data.root", "nowhere", "{train2014,val2014}, JPEGImages/{train,val}")
    (root / f"train2014/{TRAIN[0]}.jpg").unlink()
    (root / f"SegmentationClass/val2014/{VAL[0]}.png").unlink()
    fails(root, f"{TRAIN[0]}.jpg: no such image", f"{VAL[0]}.png: no mask for this val image")
    (root / "val.txt").unlink()
    fails(root, "no list of image ids", "val_id.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no image"),
        ("COCO_train2017_000000000009 3", "'COCO_train2017_000000000009 3' is not an image id"),
        ("2007_000032", "is not an image id"),
        (f"{TRAIN[0]} 80", "train.txt:1: class 80 is out of range; classes are numbered 0..79"),
        (f"{TRAIN[0]} {'9' * 5000}", "is out of range"),
        (f"{TRAIN[0]} 3\n9 4", f"{TRAIN[0]} stands on line 1 already"),
    ],
)
def test_bad_lists(root, text, message):
    (root / "train.txt").write_text(text)
    fails(root, "train.txt", message)


def test_masks_of_another_size(root):
    Image.new("L", (15, 12)).save(root / f"SegmentationClass/train2014/{TRAIN[0]}.png")
    fails(root, f"{TRAIN[0]}: the mask is 15 x 12, the image 16 x 12")


def test_configuration_is_checked():
    with pytest.raises(ConfigError, match="scored_classes"):
        coco2014.Config(root="x", scored_classes=(81,))
    with pytest.raises(ConfigError, match="masks"):
        coco2014.Config(root="x", masks="../masks")
