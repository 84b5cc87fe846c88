"""Somebody's own folder: the same labels whichever way they are kept, and one clear error for what has no meaning."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_folder import (
    COLOURS,
    NAMES,
    coco_json,
    config,
    names_csv,
    names_json,
    npy_dict,
    one_hot_csv,
    scene,
    write_folder,
    xml_folder,
)

from aream.config import Component, canonical
from aream.data.examination import inspect
from aream.data.findings import Findings
from aream.datasets import folder
from aream.datasets.folder import Labels, Masks, Split
from aream.errors import ConfigError, DataError

WRITERS = {
    "l.csv": names_csv, "hot.csv": one_hot_csv, "hot.tsv": one_hot_csv, "l.json": names_json, "coco.json": coco_json,
    "Annotations": xml_folder, "l.npy": npy_dict,
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return tmp_path / "own"


def said(found: Findings) -> dict[str, int]:
    return {one.kind: one.count for one in found}


def refused(given: folder.Config, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        inspect(folder.build(given))
    for word in words:
        assert word in str(caught.value)


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


@pytest.mark.parametrize(
    ("masks", "draw"),
    [
        (Masks(files="drawn"), lambda mask: Image.fromarray(mask)),
        (Masks(files="drawn", stored="palette"), lambda mask: painted(mask, voc(mask))),
        (
            Masks(files="drawn", rgb=dict(zip(NAMES, COLOURS, strict=True)), ignore=(9, 9, 9)),
            lambda mask: painted(mask, np.array([(0, 0, 0), *COLOURS, *[(9, 9, 9)] * 252], np.uint8)[mask]),
        ),
        (Masks(files="drawn", ignore=99), lambda mask: Image.fromarray(np.where(mask == 255, 99, mask))),
    ],
)
@pytest.mark.parametrize("ending", ["png", "tif", "BMP"])
def test_masks_mean_the_same_in_every_convention(root, masks, draw, ending):
    labels = write_folder(root)
    names_csv(root / "l.csv", labels)
    (root / "drawn").mkdir()
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path))
        mask[0] = 255
        Image.fromarray(mask).save(path)
        draw(mask).save(root / "drawn" / f"{path.stem}.{ending}")
    same = [inspect(folder.build(config(root, "l.csv", masks=given))) for given in ("masks", masks)]
    assert same[0] == same[1]


def painted(mask, colours):
    return Image.fromarray(np.asarray(colours, dtype=np.uint8).reshape(*mask.shape, 3))


def voc(mask):
    """Colours of ids in PASCAL VOC's palette, for the ids that occur here."""
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 255: (224, 224, 192)}
    return [known[int(value)] for value in mask.flatten()]


@pytest.mark.parametrize(("value", "ending"), [(255, "png"), (1, "png"), (255, "jpg"), (0, "png")])
def test_one_class_in_one_value(root, value, ending):
    write_folder(root, names=("polyp",))
    (root / "binary").mkdir()
    expected = {}
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path))
        other = 255 if value == 0 else 0
        Image.fromarray(np.where(mask, value, other).astype(np.uint8)).save(
            root / "binary" / f"{path.stem}.{ending}", quality=95
        )
        expected[path.stem] = mask
    given = config(root, "from_masks", masks=Masks(files="binary", binary=value))
    dataset = folder.build(given)
    for one in dataset.ids("train"):
        wrong = (dataset.mask(one) != expected[dataset.image_path(one).stem]).mean()
        assert wrong == 0 if ending == "png" else wrong < 0.02
        assert dataset.labels(one).tolist() == [1]


def test_values_of_masks_are_the_ids_of_the_class_file(root):
    labels = write_folder(root)
    names_csv(root / "l.csv", labels)
    (root / "ids.json").write_text(json.dumps({"0": "background", "7": "polyp", "30": "ulcer", "2": "bleeding"}))
    values = np.array([0, 7, 30, 2], dtype=np.uint8)
    for path in (root / "masks").iterdir():
        Image.fromarray(values[np.array(Image.open(path))]).save(path)
    dataset = folder.build(config(root, "l.csv", classes="ids.json"))
    assert list(dataset.class_names) == ["bleeding", "polyp", "ulcer"], "in the order of their ids"
    inspect(dataset)
    Image.fromarray(np.full((40, 48), 5, np.uint8)).save(root / "masks/case 003.png")
    allowed = "0 background, 2 bleeding, 7 polyp, 30 ulcer"
    refused(config(root, "l.csv", classes="ids.json"), "case 003.png", "[5]", allowed)


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
    kinds = said(found)
    assert kinds["images have no labels"] == 3
    assert kinds["labels are of no image"] == 1
    assert kinds["masks have no image"] == 1
    left = {Path(path).name for path in found.left_out}
    used = {dataset.image_path(one).name for split in ("train", "val") for one in dataset.ids(split)}
    assert left == {*list(labels)[9:], "._case 001.png"}
    assert left | used == {path.name for path in (root / "images").iterdir()}
    assert not found.hard
    refused(config(root, "l.csv", missing="refuse"), "l.csv:11", "'gone.jpg'")


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": "../x"}, "images: need a path under the root, got '../x'"),
        ({"labels": "/x/l.csv"}, "labels: need a path under the root"),
        ({"labels": "from_masks", "masks": None}, "from_masks needs masks"),
        ({"scored_classes": (1,)}, "scored_classes"),
        ({"masks": "../m"}, "files: need a path under the root"),
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
        (lambda: Masks(files="m/{stem}.png"), "need a path under the root"),
        (lambda: Masks(files="m", rgb={"a": (1, 1, 1)}, ignore=3), "need a colour"),
        (lambda: Labels(file=""), "need a path under the root"),
    ],
)
def test_impossible_parts(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_masks_beside_their_images_by_a_pattern(root):
    labels = write_folder(root)
    for path in (root / "masks").iterdir():
        path.rename(root / "images" / f"{path.stem}_mask.png")
    names_csv(root / "l.csv", labels)
    dataset = folder.build(config(root, "l.csv", masks="images/{name}_mask.png"))
    inspect(dataset)
    assert len(dataset.ids("train")) + len(dataset.ids("val")) == 12


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
