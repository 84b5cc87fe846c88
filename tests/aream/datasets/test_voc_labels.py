"""PASCAL VOC's image-level labels: label files in every form, and annotations."""

from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
import pytest
from voc_folder import IDS, LABELS, VAL, build, fails, vector, write_root

from aream.datasets._voc_labels import CLASS_NAMES, read_label_file


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path)


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


@pytest.mark.slow
def test_the_published_label_files_are_read_whole(data_root):
    folder = data_root / "lists" / "voc12"
    plain, pickled = (read_label_file(folder / name) for name in ("cls_labels_plain.npz", "cls_labels.npy"))
    assert len(plain) == 12031
    assert plain.keys() == pickled.keys()
    assert all(np.array_equal(plain[key], pickled[key]) for key in plain)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_label_file_that_would_run_code_is_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(root / "cls_labels.npy", {IDS[0]: Hostile()})
    fails(root, "cls_labels.npy", "system", "not part of a label file")
    assert not (tmp_path / "pwned").exists()


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
    fails(root, "declares a document type")
    shutil.rmtree(root / "Annotations")
    fails(root, "no image labels; looked for cls_labels.npy")


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


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("", "utf-8"),
        ("", "utf-8-sig"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252"),
        ('<?xml version="1.0" encoding="UTF-16"?>', "utf-16"),
        ('<?xml version="1.0"?>', "utf-16"),
    ],
)
def test_annotations_are_read_in_the_encoding_that_they_declare(root, declared, encoding):
    (root / "cls_labels.npy").unlink()
    for identifier in (*IDS, *VAL):
        text = f"{declared}<annotation><folder>Möwe</folder><object><name>bird</name></object></annotation>"
        (root / f"Annotations/{identifier}.xml").write_bytes(text.encode(encoding))
    assert build(root).labels(IDS[0]).tolist() == [float(name == "bird") for name in CLASS_NAMES]


@pytest.mark.parametrize(
    "content",
    [
        "<annotation><folder>Möwe</folder></annotation>".encode("latin-1"),
        '<?xml version="1.0" encoding="UTF-8"?><annotation/>'.encode("utf-16"),
        '<?xml version="1.0" encoding="gb2312"?><annotation>鸟</annotation>'.encode("gb2312"),
        b'<?xml version="1.0" encoding="no-such"?><annotation/>',
        b'<?xml version="1.0" encoding="base64"?><annotation/>',
        b"",
        bytes(100),
    ],
    ids=["latin-1 undeclared", "declared wrongly", "two bytes", "unknown", "no text", "empty", "zeros"],
)
def test_an_annotation_in_another_encoding_is_refused_with_what_is_needed(root, content):
    (root / "cls_labels.npy").unlink()
    for identifier in (*IDS, *VAL):
        xml(root, identifier, "cat")
    (root / f"Annotations/{IDS[0]}.xml").write_bytes(content)
    fails(root, f"{IDS[0]}.xml: cannot be read as an annotation", "need XML in UTF-8, or in an encoding")


def test_no_encoding_hides_entities(root):
    """A few of them, each made of the one before, fill any memory."""
    (root / "cls_labels.npy").unlink()
    for identifier in (*IDS, *VAL):
        xml(root, identifier, "cat")
    bomb = '<!DOCTYPE a [<!ENTITY x "cat">]><annotation><object><name>&x;</name></object></annotation>'
    text = f'<?xml version="1.0" encoding="UTF-16"?>{bomb}'
    (root / f"Annotations/{IDS[0]}.xml").write_bytes(text.encode("utf-16"))
    fails(root, "declares a document type")


TWICE = {
    "with and without .jpg": (f"{IDS[0]}.jpg", IDS[0]),
    "text and number": (IDS[0], int(IDS[0].replace("_", ""))),
    "text and bytes": (IDS[0], IDS[0].encode()),
}


@pytest.mark.parametrize("keys", TWICE.values(), ids=TWICE)
def test_two_entries_of_an_image_that_differ_are_refused_with_both(root, keys):
    others = {name: LABELS[name] for name in LABELS if name != IDS[0]}
    np.save(root / "cls_labels.npy", {keys[0]: vector(1, 4), keys[1]: vector(4), **others})
    first, second = (f"entry {number} ({str(key)!r})" for number, key in enumerate(keys, start=1))
    fails(root, "cls_labels.npy: ", f"{first} and {second} both name the image {IDS[0]} and differ: classes 1, 4")
    np.save(root / "cls_labels.npy", {keys[0]: vector(1, 4), keys[1]: vector(1, 4), **others})
    assert build(root).labels(IDS[0]).tolist() == vector(1, 4).tolist()


def test_an_archive_that_names_an_image_twice_is_refused(root):
    (root / "cls_labels.npy").unlink()
    names = [*LABELS, IDS[1]]
    np.savez(root / "cls_labels.npz", ids=names, labels=np.stack([*LABELS.values(), vector()]))
    fails(root, f"entry 2 ('{IDS[1]}') and entry 5 ('{IDS[1]}')", "classes 1, 14 (from 0), and no class")
