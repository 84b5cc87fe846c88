"""Every kind of damage is found, counted and named, and none hides the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from small_coco import TRAIN, VAL, mask_of, one_hot, write_coco
from small_voc import SIZE, write_voc

from aream.config import Component
from aream.data.examination import examine
from aream.data.findings import Finding, Findings
from aream.datasets import coco2014, shapes, voc2012
from workers.checks.dataset import check_dataset

FIRST, SECOND = "2007_000000", "2007_000001"
VAL_FIRST = "2009_000000"
ONLY_MASK = "images have a class in their mask that their label lacks"
ONLY_LABEL = "images have a class in their label that their mask lacks"


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "VOC2012")


def check(root, sample: int | None = None, **changes) -> Findings:
    return check_dataset(Component(name="voc2012", config=voc2012.Config(root=str(root), **changes)), sample=sample)


def check_coco(root, **changes) -> Findings:
    return check_dataset(Component(name="coco2014", config=coco2014.Config(root=str(root), **changes)), sample=None)


def kind(finding: Finding) -> str:
    return f"{finding.check}, {finding.split or 'both'}: {finding.kind}"


def kinds(found: Findings) -> dict[str, int]:
    """Without classes that a small set has none of."""
    return {kind(one): one.count for one in found if one.kind != "classes are in no image"}


def the(found: Findings, name: str) -> Finding:
    (finding,) = [one for one in found if kind(one) == name]
    return finding


def test_nothing_is_wrong_with_what_is_right(root):
    found = check(root)
    assert kinds(found) == {}
    assert not found.hard
    assert {(one.check, one.split): (one.count, one.total) for one in found.looked} == {
        (check, split): (count, count)
        for check in ("lists", "labels", "images", "masks")
        for split, count in (("train", 12), ("val", 4))
    }


def write_mask(root, image_id, value):
    replace_mask(root, image_id, Image.new("L", SIZE[::-1], value))


def truncate(root, image_id):
    path = root / f"JPEGImages/{image_id}.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def write_list(root, split, text):
    (root / f"ImageSets/Segmentation/{split}.txt").write_text(text)


def relabel(root, **labels):
    table = np.load(root / "cls_labels.npy", allow_pickle=True).item()
    table.update(labels)
    np.save(root / "cls_labels.npy", {key: value for key, value in table.items() if value is not None})


def replace_mask(root, image_id, image):
    image.save(root / f"SegmentationClass/{image_id}.png")


@pytest.mark.parametrize(
    ("damage", "name", "example"),
    [
        (
            lambda root: (root / f"JPEGImages/{FIRST}.jpg").unlink(),
            "images, train: listed images are missing",
            f"{FIRST}.jpg: no such image",
        ),
        (
            lambda root: truncate(root, VAL_FIRST),
            "images, val: images do not decode",
            f"{VAL_FIRST}.jpg: does not decode",
        ),
        (
            lambda root: (root / f"SegmentationClass/{VAL_FIRST}.png").unlink(),
            "masks, val: val images have no mask",
            f"{VAL_FIRST}.png",
        ),
        (
            lambda root: replace_mask(root, FIRST, Image.new("RGB", SIZE[::-1], (128, 0, 0))),
            "masks, train: masks cannot be used",
            "got mode RGB",
        ),
        (lambda root: write_mask(root, FIRST, 21), "masks, train: masks cannot be used", "label ids [21]"),
        (
            lambda root: replace_mask(root, FIRST, Image.new("L", (9, 8))),
            "masks, train: masks have another size than their image",
            f"{FIRST}: the mask is 9 x 8, the image 64 x 48",
        ),
        (lambda root: write_mask(root, FIRST, 5), f"labels, train: {ONLY_MASK}", f"{FIRST}: bottle"),
        (
            lambda root: relabel(root, **{FIRST: None}),
            "labels, train: images have no labels",
            f"cls_labels.npy: no labels for {FIRST}",
        ),
        (
            lambda root: write_list(root, "val", f"{VAL_FIRST}\n\n{VAL_FIRST}\n"),
            "lists, val: ids are listed again",
            f"val.txt:3: {VAL_FIRST} stands on line 1 already",
        ),
        (
            lambda root: write_list(root, "val", f"{VAL_FIRST}\n../../etc/passwd\n"),
            "lists, val: lines are no image ids",
            "val.txt:2: '../../etc/passwd'",
        ),
        (
            lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(),
            "lists, val: list cannot be read",
            "no list of image ids: looked for",
        ),
        (
            lambda root: write_list(root, "train", f"{FIRST}\n{VAL_FIRST}\n"),
            "lists, both: images are in train and in val",
            VAL_FIRST,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_stops_a_sweep(root, damage, name, example):
    damage(root)
    found = check(root)
    finding = the(found, name)
    assert finding.count == 1
    assert example in finding.examples[0]
    assert finding.hard
    assert found.hard


def test_what_is_only_worth_knowing(root):
    write_mask(root, FIRST, 255)
    relabel(root, **{SECOND: np.zeros(20, dtype=np.float32)})
    write_mask(root, SECOND, 0)
    found = check(root)
    assert the(found, "masks, train: masks are all ignored").examples == [FIRST]
    assert the(found, "labels, train: images have no class").examples == [SECOND]
    assert not found.hard


@pytest.mark.parametrize(("blank", "told"), [(1, False), (6, True)])
def test_labels_without_a_pixel_are_counted_and_many_are_told(root, blank, told):
    for index in range(blank):
        write_mask(root, f"2007_{index:06d}", 0)
    found = check(root)
    assert (f"labels, train: {ONLY_LABEL}" in kinds(found)) == told
    assert not found.hard
    if told:
        assert the(found, f"labels, train: {ONLY_LABEL}").count == blank
    else:
        assert any(words.startswith("1 of 12 images have a class in their label") for *_, words in found.notes)


@pytest.mark.slow
def test_one_slip_in_many_masks_is_no_reason_to_stop(tmp_path):
    root = write_voc(tmp_path / "large", train=100)
    write_mask(root, FIRST, 5)
    assert not the(check(root), f"labels, train: {ONLY_MASK}").hard
    write_mask(root, SECOND, 5)
    assert the(check(root), f"labels, train: {ONLY_MASK}").hard


def test_a_rest_of_a_hidden_object_is_no_mistake(root):
    for index in range(6):
        mask = np.zeros(SIZE, dtype=np.uint8)
        mask[:, 0] = 5  # 1 of 64 columns
        replace_mask(root, f"2007_{index:06d}", Image.fromarray(mask))
    finding = the(check(root), f"labels, train: {ONLY_MASK}")
    assert (finding.count, finding.hard) == (6, False)


def test_no_damage_hides_another(root):
    (root / f"JPEGImages/{FIRST}.jpg").unlink()
    relabel(root, **{SECOND: None})
    truncate(root, "2007_000002")
    replace_mask(root, "2007_000003", Image.new("RGB", SIZE[::-1]))
    write_list(root, "val", f"{VAL_FIRST}\n{VAL_FIRST}\n2009_000009")
    assert kinds(check(root)) == {
        "images, train: listed images are missing": 1,
        "images, val: listed images are missing": 1,
        "labels, train: images have no labels": 1,
        "images, train: images do not decode": 1,
        "masks, train: masks cannot be used": 1,
        "lists, val: ids are listed again": 1,
    }


def test_a_wrong_root_is_a_finding(tmp_path):
    (finding,) = check(tmp_path / "nowhere")
    assert finding.hard
    assert "nowhere holds no JPEGImages" in finding.examples[0]


def test_all_of_a_kind_are_counted_and_the_first_named(tmp_path):
    root = write_voc(tmp_path / "VOC2012", train=40)
    for path in (root / "JPEGImages").glob("2007_*.jpg"):
        path.unlink()
    finding = the(check(root), "images, train: listed images are missing")
    assert finding.count == 40
    assert [FIRST in finding.examples[0], SECOND in finding.examples[1], len(finding.examples)] == [True, True, 20]


@pytest.mark.parametrize("damaged", [0, 5, 11])
def test_a_sample_is_spread_and_the_whole_is_whole(root, damaged):
    truncate(root, f"2007_{damaged:06d}")
    assert check(root).hard
    sampled = check(root, sample=3)
    assert [one.count for one in sampled.looked if one.check == "images"] == [3, 3]
    assert sampled.hard == (damaged in (0, 11))  # 0, 6 (5.5 rounds to even) and 11 are looked at


@pytest.mark.parametrize("number", [lambda k: k + 1, lambda k: k + 2], ids=["right", "shifted"])
def test_coco(tmp_path, number):
    """Masks whose numbers do not mean the classes of the labels."""
    root = write_coco(tmp_path / "coco", number=number)
    found = check_coco(root, mask_ids="contiguous")
    assert found.hard == (number(0) == 2)
    words = [words for *_, words in found.notes]
    assert "numbered as mask_ids contiguous" in words
    assert words.count("1 images without any object are left out") == 2
    if found.hard:
        assert the(found, f"labels, train: {ONLY_MASK}").count == 1
        assert the(found, "masks, train: masks cannot be used").count == 1  # class 79 became 81


def test_coco_damage(tmp_path):
    root = write_coco(tmp_path / "coco")
    (root / f"train2014/{TRAIN[0]}.jpg").unlink()
    (root / f"SegmentationClass/val2014/{VAL[0]}.png").unlink()
    (root / "val.txt").write_text(f"{VAL[0]} 16\n{VAL[1]} 71 90\n{VAL[2]}\nnonsense\n")
    Image.fromarray(mask_of((3, 71, 8))).save(root / f"SegmentationClass/val2014/{VAL[1]}.png")
    assert kinds(check_coco(root)) == {
        "images, train: listed images are missing": 1,
        "masks, val: val images have no mask": 1,
        "lists, val: lines are no image ids": 2,
        f"labels, val: {ONLY_MASK}": 1,
    }


def test_any_dataset_gets_the_general_checks():
    component = Component(name="shapes", config=shapes.Config(image_size=32, train_images=6, val_images=3))
    found = check_dataset(component, sample=None)
    assert not found.hard
    assert [one.count for one in found.looked if one.check == "masks"] == [6, 3]


class Careless:
    """A dataset that keeps no promise."""

    class_names: Sequence[str] = ("a", "b")
    scored_classes: Sequence[int] = (0, 1, 2)

    def ids(self, split):
        return {"train": ["one", "two", "two", "half"], "val": ["one"]}[split]

    def image(self, image_id):
        return Image.new("RGB", (4, 3))

    def labels(self, image_id):
        return np.array({"half": [0.5, 0.5]}.get(image_id, [1, 0]), dtype=np.float32)

    def mask(self, image_id):
        return np.full((3, 4), 7, dtype=np.uint8) if image_id == "two" else None

    def look_at_image(self, image_id):
        return (4, 3), b"digest"

    def look_at_mask(self, image_id):
        mask = self.mask(image_id)
        return None if mask is None else (mask, b"digest")


def test_a_dataset_that_checks_nothing_itself():
    found = Findings()
    examine(Careless(), found, sample=None)
    assert kinds(found) == {
        "lists, train: ids come again": 1,
        "lists, both: images are in train and in val": 1,
        "labels, train: labels are not zeros and ones": 1,
        "masks, train: masks have ids out of range": 1,
        "masks, train: masks show too few classes to take a mean over": 1,
        "masks, val: no val image has a mask": 1,
    }


def test_the_real_images(data_root):
    found = check(data_root / "voc12_animals", sample=20)
    assert not found.hard
    assert [(one.count, one.total) for one in found.looked if one.check == "images"] == [(20, 520), (20, 200)]


def test_labels_of_another_number_of_classes(root):
    np.save(root / "cls_labels.npy", {FIRST: one_hot((1,))})
    (finding,) = check(root)
    assert "cls_labels.npy: not a label file: the labels of '2007_000000' are not 20" in finding.examples[0]
