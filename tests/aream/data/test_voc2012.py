from __future__ import annotations

import os
import pickle
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from aream.data import voc2012
from aream.data._examination import inspect
from aream.data._findings import Findings
from aream.data._lists import read_split
from aream.data._protocol import Dataset
from aream.data._voc_labels import CLASS_NAMES, read_label_file
from aream.errors import ConfigError, DataError

IDS = ("2007_000032", "2007_000039", "2008_000123")
VAL = ("2009_000001",)


def vector(*classes: int) -> np.ndarray:
    labels = np.zeros(20, dtype=np.float32)
    labels[list(classes)] = 1
    return labels


LABELS = {identifier: vector(index, 14) for index, identifier in enumerate((*IDS, *VAL))}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "Annotations"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for identifier in (*IDS, *VAL):
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(root / f"JPEGImages/{identifier}.jpg")
    for identifier in (*IDS[:2], *VAL):  # an augmented list may name images without a mask
        ids = np.flatnonzero(LABELS[identifier]) + 1
        mask = rng.choice([0, *ids, 255], (12, 16)).astype(np.uint8)
        image = Image.fromarray(mask)
        if identifier == IDS[0]:
            image.putpalette(rng.integers(0, 255, 768, dtype=np.uint8).tolist())
        image.save(root / f"SegmentationClass/{identifier}.png")
    write_list(root, "train.txt", "\n".join(IDS))
    write_list(root, "val.txt", VAL[0])
    np.save(root / "cls_labels.npy", LABELS)
    return root


def write_list(root, name, text):
    (root / "ImageSets/Segmentation" / name).write_text(text)


def build(root, **changes):
    return voc2012.build(voc2012.Config(root=str(root), **changes))


def fails(root, *messages, **changes):
    with pytest.raises(DataError) as caught:
        inspect(build(root, **changes))
    for message in messages:
        assert message in str(caught.value)


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


def xml(root, identifier, *names):
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    (root / f"Annotations/{identifier}.xml").write_text(f"<annotation>{objects}</annotation>")


@pytest.mark.parametrize("form", ["jpg keys", "int keys", "onehot", "npz", "python 2", "xml"])
def test_every_label_format(root, form):
    path = root / "cls_labels.npy"
    path.unlink()
    if form == "jpg keys":
        np.save(path, {f"{key}.jpg": value for key, value in LABELS.items()})
    elif form == "int keys":
        np.save(path, {int(key.replace("_", "")): value for key, value in LABELS.items()})
    elif form == "onehot":
        np.save(root / "cls_labels_onehot.npy", LABELS)
    elif form == "npz":
        np.savez(root / "cls_labels_plain.npz", ids=list(LABELS), labels=np.stack(list(LABELS.values())))
    elif form == "python 2":
        header = np.lib.format
        with path.open("wb") as file:
            header.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
            pickle.dump(np.array(LABELS, dtype=object), file, protocol=2)
    else:
        for identifier, labels in LABELS.items():
            xml(root, identifier, *(CLASS_NAMES[c] for c in labels.nonzero()[0]))
    dataset = build(root)
    for identifier, labels in LABELS.items():
        np.testing.assert_array_equal(dataset.labels(identifier), labels)


def test_the_published_label_files_are_read_whole(data_root):
    folder = data_root / "lists" / "voc12"
    plain, pickled = (read_label_file(folder / name) for name in ("cls_labels_plain.npz", "cls_labels.npy"))
    assert len(plain) == 12031
    assert plain.keys() == pickled.keys()
    assert all(np.array_equal(plain[key], pickled[key]) for key in plain)


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


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_label_file_that_would_run_code_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(root / "cls_labels.npy", {IDS[0]: Hostile()})
    fails(root, "cls_labels.npy", "system", "not part of a label file")
    assert not (tmp_path / "pwned").exists()


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


@pytest.mark.parametrize("content", [{}, {"2007_000032": [1, 2]}, [1, 2], {"2007_000032": np.full(20, 3.0)}])
def test_label_files_of_another_shape(root, content):
    np.save(root / "cls_labels.npy", content)
    fails(root, "cls_labels.npy")


def test_images_without_labels(root):
    np.save(root / "cls_labels.npy", {IDS[0]: vector(1)})
    fails(root, f"no labels for {IDS[1]}", f"no labels for {VAL[0]}")
    (root / "cls_labels.npy").unlink()
    fails(root, f"{IDS[0]}.xml: no annotation")
    xml(root, IDS[0], "unicorn")
    fails(root, "unknown classes unicorn")
    (root / f"Annotations/{IDS[0]}.xml").write_text("<!DOCTYPE x [<!ENTITY a 'b'>]><annotation/>")
    fails(root, "declares no document type")
    shutil.rmtree(root / "Annotations")
    fails(root, "no image labels; looked for cls_labels.npy")


def test_scored_classes_are_checked():
    with pytest.raises(ConfigError, match="scored_classes"):
        voc2012.Config(root="x", scored_classes=(21,))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation/>", "no object in it"),
        ('<annotation xmlns="urn:x"><object><name>cat</name></object></annotation>', "without a namespace"),
        ("<annotation><Object><Name>cat</Name></Object></annotation>", "no object in it"),
        ("<annotation><object><name>cat</name></object><object/></annotation>", "object 2 has no name"),
        ("<annotation><object><name> </name></object></annotation>", "object 1 has no name"),
        ("<annotation><object><name>Cat</name></object></annotation>", "unknown classes Cat"),
    ],
)
def test_an_annotation_in_which_no_object_is_found_does_not_say_that_there_is_none(root, text, words):
    (root / "cls_labels.npy").unlink()
    for identifier in (*IDS, *VAL):
        xml(root, identifier, "cat")
    (root / f"Annotations/{IDS[0]}.xml").write_text(text)
    fails(root, f"{IDS[0]}.xml: ", words)


def test_names_with_blanks_around_them_are_names(root):
    (root / "cls_labels.npy").unlink()
    for identifier in (*IDS, *VAL):
        xml(root, identifier, "\n  cat ")
    assert build(root).labels(IDS[0]).tolist() == [float(name == "cat") for name in CLASS_NAMES]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({name: np.zeros(20) for name in LABELS}, "none of its 4 images has a class"),
        ({name: np.ones(3) for name in LABELS}, "are not 20 zeros and ones: it has 3 numbers"),
        ({name: np.full(20, 0.5) for name in LABELS}, "it has 20 numbers, 0.5 among them"),
        ({f"{name}.jpeg": LABELS[name] for name in LABELS}, f"no labels for {IDS[0]}; it names {IDS[0]}.jpeg, say"),
    ],
)
def test_label_files_say_what_was_found(root, labels, words):
    np.save(root / "cls_labels.npy", labels)
    fails(root, "cls_labels.npy: ", words)


def test_an_archive_without_its_arrays_says_what_it_has(root):
    (root / "cls_labels.npy").unlink()
    np.savez(root / "cls_labels.npz", names=np.array(list(LABELS)), labels=np.array(list(LABELS.values())))
    fails(root, "cls_labels.npz: not a label file: it has no array ids; it has names, labels")
