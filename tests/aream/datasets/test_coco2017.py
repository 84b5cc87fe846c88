"""COCO 2017: the same photos as in 2014 under other names, labelled by COCO's own annotations."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_coco import CLASSES, SIZE, TRAIN, VAL, digits, instances, mask_of, one_hot, write_coco, write_coco2017

from aream.data.dataset import Dataset
from aream.data.examination import inspect
from aream.data.findings import Findings
from aream.datasets import coco2014, coco2017
from aream.datasets._coco_annotations import KEPT, read_instances
from aream.errors import DataError

OBJECTS = [name for name in CLASSES if CLASSES[name]]


def build(root, **changes):
    return coco2017.build(coco2017.Config(root=str(root), **changes))


def fails(root, *messages, **changes):
    with pytest.raises(DataError) as caught:
        inspect(build(root, **changes))
    for message in messages:
        assert message in str(caught.value)


@pytest.fixture
def root(tmp_path):
    return write_coco2017(tmp_path / "coco")


def test_reads_images_masks_and_labels(root):
    dataset = build(root)
    assert isinstance(dataset, Dataset)
    assert list(dataset.ids("train")) == [digits(name) for name in TRAIN if CLASSES[name]]
    assert list(dataset.ids("val")) == [digits(name) for name in VAL if CLASSES[name]]
    for name in OBJECTS:
        assert dataset.image(digits(name)).size == SIZE[::-1]
        np.testing.assert_array_equal(dataset.labels(digits(name)), one_hot(CLASSES[name]))
        np.testing.assert_array_equal(dataset.mask(digits(name)), mask_of(CLASSES[name]))
    assert len(pickle.dumps(dataset)) < 5000
    kept = build(root, objectless="keep")
    assert [list(kept.ids(split)) for split in ("train", "val")] == [[*map(digits, TRAIN)], [*map(digits, VAL)]]


@pytest.mark.parametrize("base", [".", "coco2017"])
@pytest.mark.parametrize("images", ["{}2017", "JPEGImages/{}", "JPEGImages/{}2017"])
@pytest.mark.parametrize("masks", ["SegmentationClass/{}", "SegmentationClass/{}2017"])
@pytest.mark.parametrize("lists", [True, False])
def test_every_layout_is_the_same_dataset(tmp_path, root, base, images, masks, lists):
    other = tmp_path / "other" / base
    write_coco(other, images, masks, mask_name=digits, image_name=digits, lists=lists)
    if not lists:
        shutil.copytree(root / "annotations", other / "annotations")
    assert inspect(build(tmp_path / "other")) == inspect(build(root))


def test_lists_and_label_files_may_have_the_names_of_2014(root):
    np.save(root / "cls_labels.npy", {name: one_hot((5,)) for name in CLASSES})
    (root / "train.txt").write_text("\n".join([TRAIN[0], digits(VAL[0]), f"train2017/{digits(TRAIN[1])}.jpg"]))
    (root / "val.txt").write_text(f"{int(digits(VAL[1]))}\n")
    dataset = build(root)
    assert list(dataset.ids("train")) == [digits(one) for one in (TRAIN[0], VAL[0], TRAIN[1])]
    assert list(dataset.ids("val")) == [digits(VAL[1])]
    np.testing.assert_array_equal(dataset.mask(digits(VAL[0])), mask_of(CLASSES[VAL[0]]))
    assert {tuple(np.flatnonzero(dataset.labels(one))) for one in dataset.ids("train")} == {(5,)}


def test_a_list_without_classes_takes_them_from_the_annotations_of_both_parts(root):
    (root / "train.txt").write_text("\n".join([TRAIN[1], VAL[1]]))
    dataset = build(root)
    for name in (TRAIN[1], VAL[1]):
        np.testing.assert_array_equal(dataset.labels(digits(name)), one_hot(CLASSES[name]))
    assert list(dataset.ids("val")) == [digits(VAL[0]), digits(VAL[1])]


def test_the_annotations_of_2014_do_too(tmp_path):
    """Named as they are, and equal to lists that carry the labels."""
    listed = write_coco(tmp_path / "listed")
    bare = write_coco(tmp_path / "bare", lists=False)
    (bare / "annotations").mkdir()
    for part, ids in (("train", TRAIN), ("val", VAL)):
        text = json.dumps(instances(ids, lambda name: f"{name}.jpg"))
        (bare / f"annotations/instances_{part}2014.json").write_text(text)
    found = [inspect(coco2014.build(coco2014.Config(root=str(root)))) for root in (listed, bare)]
    assert found[0] == found[1]


def test_what_is_missing_is_named(root, tmp_path):
    fails(tmp_path, "holds no images of COCO 2017", "{train2017,val2017}, JPEGImages/{train,val}")
    (root / f"train2017/{digits(TRAIN[0])}.jpg").unlink()
    fails(root, f"{digits(TRAIN[0])}.jpg: no such image")
    shutil.rmtree(root / "annotations")
    fails(root, "no list of image ids", "train2017.txt")
    (root / "train.txt").write_text(TRAIN[1])
    (root / "val.txt").write_text(VAL[0])
    fails(root, "none of cls_labels.npy", "and annotations/instances_*2017.json is there")


def changed(part, number, **entry):
    def change(content):
        content[part][number].update(entry)
        return content

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: [], "need COCO's annotations"),
        (lambda content: {**content, "images": []}, "annotations[0].image_id: 9 is in no list of the file"),
        (lambda content: {**content, "images": [], "annotations": []}, "names no image"),
        (changed("images", 0, file_name="../9.jpg"), "the name '../9.jpg' is none of COCO's"),
        (changed("images", 1, file_name="000000000009.jpg"), "000000000009.jpg is the number of another image too"),
        (changed("images", 1, id=9), "images: the id 9 stands there twice"),
        (changed("images", 0, id="9"), "images[0]: need id, a number and file_name, a text"),
        (changed("annotations", 0, category_id=12), "annotations[0].category_id: 12 is in no list of the file"),
        (changed("categories", 45, name="vase"), "categories: two of them have the same name"),
        (changed("categories", 45, name="bowls"), "the class 'bowls' is none of COCO's"),
    ],
)
def test_annotations_of_something_else(root, change, words):
    path = root / "annotations/instances_train2017.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    fails(root, str(path), words)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"images": NaN}', "\xff", '{"images": 1, "images": 2}'])
def test_annotations_that_cannot_be_read(root, text):
    path = root / "annotations/instances_val2017.json"
    path.write_bytes(text.encode("latin-1"))
    fails(root, str(path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEPT)), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(
    content=st.fixed_dictionaries(
        {
            "images": json_values | st.lists(st.fixed_dictionaries({"id": json_values, "file_name": json_values})),
            "annotations": json_values,
            "categories": json_values,
        }
    )
)
def test_any_json_is_labels_or_one_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "instances.json"
    path.write_text(json.dumps(content))
    said = ""
    try:
        assert all(len(number) == 12 for number in read_instances(path))
    except DataError as error:
        said = str(error)
    assert str(path) in said or not said
    assert len(said) < 5000


@settings(max_examples=200)
@given(name=st.text(max_size=40) | st.from_regex(r"(COCO_(train|val)201[47]_)?[0-9]{0,14}(\.jpg)?"))
def test_a_line_is_twelve_digits_or_no_image(name):
    for split in ("train", "val"):
        found = coco2017.Coco2017.full_id(None, name, split)
        digits_of = name.removeprefix("COCO_train2014_").removeprefix("COCO_val2014_")
        expected = digits_of.isascii() and digits_of.isdigit() and len(digits_of) <= 12
        expected &= len(digits_of) == 12 or digits_of == name
        assert found == (digits_of.zfill(12) if expected else None)


def test_a_file_that_changed_is_read_again(root):
    path = root / "annotations/instances_val2017.json"
    before = read_instances(path)
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:-1]
    path.write_text(json.dumps(content))
    after = read_instances(path)
    assert sum(map(len, after.values())) == sum(map(len, before.values())) - 1


def test_findings_tell_where_labels_are_from(root):
    found = Findings()
    coco2017.build(coco2017.Config(root=str(root)), found)
    assert not [finding for finding in found if finding.hard]
    notes = [words for _, split, words in found.notes if split == "train"]
    path = root / "annotations/instances_train2017.json"
    assert {f"3 images in {path}", f"from {path}"} <= set(notes)
