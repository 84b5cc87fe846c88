"""One clear error, by file and line or by key, for what has no meaning in somebody's own folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_folder import config, names_csv, refused, write_folder

from aream.datasets.folder import Labels, Masks, Split
from aream.errors import ConfigError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,labels\ncase 000.jpg,polip\n", ("l.csv:2", "'polip'", "allowed are polyp, ulcer, bleeding")),
        ("image,labels\ncase 000.jpg,Polyp\n", ("l.csv:2", "did you mean polyp?")),
        ("image,labels\ncase 000.jpg\n", ("l.csv:2", "1 cells, the header 2")),
        ("image,polyp,ulcer\ncase 000.jpg,1,2\n", ("l.csv:2", "'ulcer'", "0 or 1")),
        ("case 000.jpg,polyp\n", ("l.csv:1", "need a header")),
        ("image,image\n", ("l.csv:1", "different names")),
        ("", ("l.csv:1", "need a header")),
        ("image,labels\n", ("l.csv", "labels none of the 12 images")),
        ("image,labels\ncase 000.jpg,polyp\ncase 000.jpg,ulcer\n", ("l.csv:3", "also at", "l.csv:2")),
        ('image,labels\n"case 000.jpg,polyp\n', ("l.csv:2", "cannot be read as a row")),
        ("image,labels\ncase 000.jpg,none;polyp\n", ("l.csv:2", "no class and a class")),
    ],
)
def test_tables_that_mean_nothing_are_refused_by_file_and_line(root, text, words):
    write_folder(root)
    (root / "l.csv").write_text(text)
    refused(config(root, "l.csv", no_class=("none",)), *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"case 000.jpg": 3}, ("'case 000.jpg'", "need names")),
        ([{"image": "case 000.jpg"}], ("record 0", "labels.classes", "there are image")),
        ([3], ("record 0", "got int")),
        (3, ("need classes by image",)),
        ({"images": [{"id": 1}], "categories": [], "annotations": []}, ("images[0]", "file_name")),
        (
            {"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 2}]},
            ("annotations[0].image_id: 1 is in no list",),
        ),
        (
            {"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "categories": [], "annotations": []},
            ("images: the id 1 stands there twice",),
        ),
    ],
)
def test_json_that_means_nothing_is_refused(root, content, words):
    write_folder(root)
    (root / "l.json").write_text(json.dumps(content))
    refused(config(root, "l.json"), "l.json", *words)


def test_one_key_of_json_says_one_thing(root):
    write_folder(root)
    (root / "l.json").write_text('{"case 000.jpg": ["polyp"], "case 000.jpg": ["ulcer"]}')
    refused(config(root, "l.json"), "l.json", "'case 000.jpg' stands there twice")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": "nowhere"}, ("nowhere: no such folder",)),
        ({"images": "images/*.gif"}, ("no image for data.images 'images/*.gif'", ".webp")),
        ({"masks": "nowhere"}, ("data.masks", "nowhere")),
        ({"labels": "missing.csv"}, ("missing.csv: no such file",)),
        ({"labels": "l.txt"}, ("need folders, from_masks",)),
        ({"labels": "l.csv", "classes": "none.txt"}, ("none.txt: no such file",)),
        ({"classes": ("a", "a")}, ("data.classes: the class a stands there 2 times",)),
        ({"classes": ()}, ("data.classes: no class",)),
        ({"classes": None}, ("data.classes: masks hold ids",)),
        ({"masks": Masks(files="masks", binary=255)}, ("masks.binary", "polyp, ulcer, bleeding")),
        ({"masks": Masks(files="masks", rgb={"polyp": (1, 1, 1)})}, ("masks.rgb: no colour of ulcer, bleeding",)),
        ({"masks": Masks(files="masks", rgb={"dog": (1, 1, 1)})}, ("masks.rgb: unknown class 'dog'",)),
        ({"masks": Masks(files="masks", ignore=2)}, ("masks.ignore: 2 is the value of ulcer",)),
        ({"split": Split(train="none.txt", val="none.txt")}, ("none.txt: no such file",)),
        ({"split": Split(column="use")}, ("split.column: no column 'use'; there are image, labels",)),
        ({"split": Split(val=1e-9)}, ("drew none of 12 images",)),
        ({"scored_classes": (0, 9)}, ("data.scored_classes: 9 is no mask id; need 0..3",)),
    ],
)
def test_what_is_not_there_is_named(root, changes, words):
    names_csv(root / "l.csv", write_folder(root))
    refused(config(root, **{"labels": "l.csv", **changes}), *words)


@pytest.mark.parametrize("key", ["256", "00010000", "9" * 5000, "-1", "polyp", ""])
def test_ids_of_classes_are_those_of_a_byte(root, key):
    names_csv(root / "l.csv", write_folder(root))
    (root / "c.json").write_text(f'{{"{key}": "polyp", "2": "ulcer", "003": "bleeding"}}')
    refused(config(root, "l.csv", classes="c.json"), "c.json: the id '", "is no number in 0..255")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": "../x"}, "images: need a path under the root, got '../x'"),
        ({"labels": "/x/l.csv"}, "labels: need a path under the root"),
        ({"labels": "from_masks", "masks": None}, "from_masks needs masks"),
        ({"scored_classes": (1,)}, "scored_classes"),
        ({"masks": "../m"}, "masks: need a path under the root"),
    ],
)
def test_impossible_settings(changes, words):
    with pytest.raises(ConfigError, match="(?s).*" + words.replace(".", r"\.")):
        config(Path("x"), **{"labels": "l.csv", **changes})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Split(val=1.5), "val: need a share"),
        (lambda: Split(column="a", val=0.2), "need it alone"),
        (lambda: Split(train="a.txt"), "beside that of train"),
        (lambda: Masks(files="m", rgb={}, binary=1), "need one of them"),
        (lambda: Masks(files="m", binary=300), "values in 0..255"),
        (lambda: Masks(files="m", binary=1, ignore=1), "got 1 twice"),
        (lambda: Masks(files="m", rgb={"a": (1, 1, 1), "b": (1, 1, 1)}), "need different colours"),
        (lambda: Masks(files="m/{stem}.png"), "files: need no braces but {path} and {name}, got .m/{stem}.png"),
        (lambda: Masks(files="m", rgb={"a": (1, 1, 1)}, ignore=3), "need a colour"),
        (lambda: Labels(file=""), "need a path under the root"),
    ],
)
def test_impossible_parts(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
