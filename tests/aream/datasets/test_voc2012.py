from __future__ import annotations

import pickle
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from voc_folder import IDS, LABELS, VAL, build, fails, write_list, write_root

from aream.data.dataset import Dataset
from aream.data.examination import inspect
from aream.data.findings import Findings
from aream.data.lists import read_split
from aream.datasets import voc2012
from aream.errors import ConfigError


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path)


def test_reads_images_masks_and_labels(root):
    dataset = build(root)
    assert isinstance(dataset, Dataset)
    assert (list(dataset.ids("train")), list(dataset.ids("val"))) == (list(IDS), list(VAL))
    assert dataset.image(IDS[0]).mode == "RGB"
    assert set(np.unique(dataset.mask(IDS[0]))) == {0, 1, 15, 255}  # indices, not the palette's colours
    assert dataset.mask(IDS[2]) is None
    np.testing.assert_array_equal(dataset.labels(IDS[1]), LABELS[IDS[1]])
    assert len(pickle.dumps(dataset)) < 5000


def test_the_fingerprint_is_that_of_the_content(root, tmp_path):
    first = inspect(build(root))
    shutil.copytree(root, tmp_path / "elsewhere")
    assert inspect(build(tmp_path / "elsewhere")) == first
    Image.new("L", (16, 12), 1).save(root / f"SegmentationClass/{IDS[0]}.png")
    assert inspect(build(root)) != first


@pytest.mark.parametrize("name", ["train_aug.txt", "train_aug_id.txt", "train_aug(id).txt", "trainaug.txt"])
@pytest.mark.parametrize("folder", ["ImageSets/Segmentation", "."])
def test_every_place_of_the_augmented_list(root, name, folder):
    (root / folder / name).write_text("\n".join(IDS[:2]))
    assert list(build(root).ids("train")) == list(IDS[:2])  # not train.txt, which names three


@pytest.mark.parametrize(
    "text",
    [
        "{0}\n{1}\n",
        "{0}\n{1}",
        "{0}\r\n{1}\r\n",
        "\n{0}\n\n  \n{1}\n\n",
        "\ufeff{0}\n{1}\n",
        "{0}.jpg\n{1}.jpg\n",
        "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png\n/JPEGImages/{1}.jpg /SegmentationClassAug/{1}.png",
        "JPEGImages/{0}.jpg SegmentationClassAug/{0}.png\r\nJPEGImages/{1}.jpg x\n",
    ],
)
def test_every_list_format(root, text):
    (root / "ImageSets/Segmentation/train_aug.txt").write_bytes(text.format(*IDS).encode())
    assert list(build(root).ids("train")) == list(IDS[:2])


@pytest.mark.parametrize("mode", ["palette", "grey"])
def test_indices_are_never_converted(root, mode):
    """A palette whose colours are no class ids, with fewer than 8 bits a pixel too."""
    for values in ([0, 1], [0, 1, 2, 3], [0, 7, 15, 20, 255]):
        mask = np.resize(np.array(values, dtype=np.uint8), (12, 16))
        image = Image.fromarray(mask)
        if mode == "palette":
            image.putpalette(np.random.default_rng(0).integers(0, 255, 768, dtype=np.uint8).tolist())
        image.save(root / f"SegmentationClass/{IDS[0]}.png", bits=8 if mode == "grey" or max(values) > 15 else 2)
        np.testing.assert_array_equal(build(root).mask(IDS[0]), mask)


def test_masks_of_another_folder(root):
    shutil.copytree(root / "SegmentationClass", root / "SegmentationClassAug")
    Image.new("L", (16, 12), 7).save(root / f"SegmentationClassAug/{IDS[2]}.png")
    assert build(root).mask(IDS[2]) is None
    assert set(np.unique(build(root, masks="SegmentationClassAug").mask(IDS[2]))) == {7}


def test_lists_by_path_or_name(root, tmp_path):
    (tmp_path / "mine.txt").write_text(IDS[1])
    assert list(build(root, train_list=str(tmp_path / "mine.txt")).ids("train")) == [IDS[1]]
    write_list(root, "other.txt", IDS[2])
    assert list(build(root, train_list="other.txt").ids("train")) == [IDS[2]]


@pytest.mark.parametrize(("name", "count"), [("train.txt", 1464), ("val.txt", 1449), ("train_aug.txt", 10582)])
def test_the_published_lists_are_read_whole(data_root, name, count):
    found = Findings()
    listed = read_split(name, (), [data_root / "lists" / "voc12"], found, "train", lambda stem: stem)
    assert len(set(listed.ids)) == count
    assert not list(found)
    assert all(re.fullmatch(r"20\d\d_\d{6}", image_id) for image_id in listed.ids)


def test_the_real_images(data_root):
    dataset = build(data_root / "voc12_animals")
    assert (len(dataset.ids("train")), len(dataset.ids("val"))) == (520, 200)
    image_id = dataset.ids("val")[0]
    assert dataset.mask(image_id).shape == dataset.image(image_id).size[::-1]


def test_what_is_missing_is_named(root, tmp_path):
    fails(tmp_path / "nowhere", "data.root", "nowhere", "JPEGImages")
    (root / f"JPEGImages/{IDS[0]}.jpg").unlink()
    (root / f"SegmentationClass/{VAL[0]}.png").unlink()
    fails(root, f"{IDS[0]}.jpg: no such image", f"{VAL[0]}.png: no mask for this val image")
    (root / "ImageSets/Segmentation/val.txt").unlink()
    fails(root, "no list of image ids", "val_id.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no image"),
        ("../../etc/passwd", "is not an image id"),
        ("a\0b", "is not an image id"),
        (f"{IDS[0]}\n{IDS[0]}", "stands on line 1 already"),
    ],
)
def test_bad_lists(root, text, message):
    write_list(root, "train.txt", text)
    fails(root, "train.txt", message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b"no image"), "does not decode"),
        (lambda p: p.write_bytes(p.read_bytes()[:-80]), "does not decode"),
        (lambda p: p.write_bytes(b""), "does not decode"),
    ],
)
def test_images_that_do_not_decode(root, damage, message):
    damage(root / f"JPEGImages/{IDS[1]}.jpg")
    fails(root, f"{IDS[1]}.jpg", message)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (15, 12)), "the mask is 15 x 12, the image 16 x 12"),
        (Image.new("L", (16, 12), 21), "label ids [21] are out of range; allowed are 0..20 and 255"),
        (Image.new("RGB", (16, 12)), "got mode RGB"),
    ],
)
def test_bad_masks(root, mask, message):
    mask.save(root / f"SegmentationClass/{IDS[1]}.png")
    fails(root, IDS[1], message)


def test_all_problems_are_listed_together(root):
    for identifier in IDS:
        (root / f"JPEGImages/{identifier}.jpg").write_bytes(b"")
    fails(root, *(f"{identifier}.jpg" for identifier in IDS))


def test_absurdly_large_images_are_refused(root, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    fails(root, f"{IDS[0]}.jpg", "exceeds limit")


def test_scored_classes_are_checked():
    with pytest.raises(ConfigError, match="scored_classes"):
        voc2012.Config(root="x", scored_classes=(21,))
