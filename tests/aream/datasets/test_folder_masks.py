"""Masks of somebody's own folder, in the ways that people keep them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from small_folder import COLOURS, NAMES, config, names_csv, refused, write_folder

from aream.data.examination import inspect
from aream.datasets import folder
from aream.datasets._folder import masks as reading
from aream.datasets.folder import Masks


@pytest.fixture
def root(tmp_path):
    return tmp_path / "own"


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


def test_masks_beside_their_images_by_a_pattern(root):
    labels = write_folder(root)
    for path in (root / "masks").iterdir():
        path.rename(root / "images" / f"{path.stem}_mask.png")
    names_csv(root / "l.csv", labels)
    dataset = folder.build(config(root, "l.csv", masks="images/{name}_mask.png"))
    inspect(dataset)
    assert len(dataset.ids("train")) + len(dataset.ids("val")) == 12


def test_a_mask_is_decoded_once_and_again_when_it_changed(root):
    write_folder(root)
    first = folder.build(config(root, "from_masks"))
    decoded = reading._decoded.cache_info().misses
    again = folder.build(config(root, "from_masks"))
    assert reading._decoded.cache_info().misses == decoded
    one = first.ids("train")[0]
    assert again.labels(one).tolist() == first.labels(one).tolist()
    Image.fromarray(np.full(first.mask(one).shape, 3, np.uint8)).save(first.mask_path(one))
    assert folder.build(config(root, "from_masks")).labels(one).tolist() == [0, 0, 1]
    assert reading._decoded.cache_info().misses == decoded + 1


def test_what_is_remembered_of_a_mask_is_of_its_convention(root):
    write_folder(root)
    dataset = folder.build(config(root, "from_masks"))
    (root / "ids.json").write_text(json.dumps({"0": "floor", "1": "polyp", "2": "ulcer", "3": "background"}))
    other = folder.build(config(root, "from_masks", classes="ids.json"))
    for one in (*dataset.ids("train"), *dataset.ids("val")):
        assert other.labels(one).tolist() == [1, *dataset.labels(one).tolist()[:2]]


def test_a_damaged_mask_is_told_each_time(root):
    write_folder(root)
    (root / "masks/case 003.png").write_bytes(b"no picture")
    for _ in range(2):
        refused(config(root, "from_masks"), "masks cannot be used", "case 003.png")
