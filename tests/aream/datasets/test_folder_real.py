"""Real photos, whose labels are kept in every way: one content; and the same figures as by the preset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_folder import coco_json, names_csv, one_hot_csv, xml_folder

from aream.data.examination import inspect
from aream.datasets import folder, voc2012
from aream.datasets.folder import Split
from aream.labels.pseudo_labels import LabelsConfig
from workers.evaluation import evaluate_folder

pytestmark = pytest.mark.slow
LISTS = Split(train="ImageSets/Segmentation/train.txt", val="ImageSets/Segmentation/val.txt")


def linked(real: Path, root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The folders of a set as links, beside which labels may be written; names of its classes, and labels by file."""
    root.mkdir()
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (root / name).symlink_to(real / name)
    _, *names = (real / "class_names.txt").read_text().split()
    table = np.load(real / "cls_labels.npy", allow_pickle=True).item()
    labels = {f"{one}.jpg": [names[k] for k in np.flatnonzero(vector)] for one, vector in table.items()}
    return names, {name: found for name, found in labels.items() if (root / "JPEGImages" / name).exists()}


def config(root: Path, names: list[str], labels: str, **more: object) -> folder.Config:
    usual = {"images": "JPEGImages", "masks": "SegmentationClass", "split": LISTS}
    return folder.Config(root=str(root), classes=tuple(names), labels=labels, **{**usual, **more})


@pytest.mark.parametrize("name", ["msrc21_things", "voc12_animals"])
def test_one_content_however_its_labels_are_kept(data_root, tmp_path, name):
    names, labels = linked(data_root / name, tmp_path / "own")
    root = tmp_path / "own"
    shown = {name: found for name, found in labels.items() if found}
    written = [
        names_csv(root / "l.csv", labels),
        one_hot_csv(root / "hot.tsv", labels, names),
        coco_json(root / "coco.json", labels, names),
        xml_folder(root / "Annotations", shown),
    ]
    found = {place: inspect(folder.build(config(root, names, place))) for place in written}
    assert len(set(found.values())) == 1
    of_masks = folder.build(config(root, names, "from_masks"))
    for one in of_masks.ids("train")[:20]:
        seen = set(np.unique(of_masks.mask(one))) - {0, 255}
        assert {int(k) + 1 for k in np.flatnonzero(of_masks.labels(one))} == seen


def test_a_folder_a_class(data_root, tmp_path):
    names, labels = linked(data_root / "msrc21_things", tmp_path / "own")
    single = {name: found[0] for name, found in labels.items() if len(found) == 1}
    for name, of_class in single.items():
        place = tmp_path / "sorted" / "photos" / of_class / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((tmp_path / "own/JPEGImages" / name).read_bytes())
    more = {"images": "photos", "masks": None, "split": Split(val=0.2)}
    dataset = folder.build(config(tmp_path / "sorted", names, "folders", **more))
    ids = [one for split in ("train", "val") for one in dataset.ids(split)]
    assert len(ids) == len(single)
    for one in ids:
        assert [names[k] for k in np.flatnonzero(dataset.labels(one))] == [single[dataset.image_path(one).name]]


def test_the_preset_and_a_folder_give_the_same_figures(data_root, tmp_path):
    real = data_root / "voc12_animals"
    own = tmp_path / "own"
    names, _ = linked(real, own)
    (tmp_path / "made").mkdir()
    (own / "labels").mkdir()
    (own / "labels/cls_labels.npy").write_bytes((real / "cls_labels.npy").read_bytes())
    preset = voc2012.build(voc2012.Config(root=str(real)))
    dataset = folder.build(config(own, names, "labels/cls_labels.npy"))
    rng = np.random.default_rng(0)
    for one in preset.ids("val"):
        mask = preset.mask(one)
        assert mask is not None
        noisy = np.where(rng.random(mask.shape) < 0.3, 0, np.where(mask == 255, 0, mask)).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / "made" / f"{one}.png")
    first, second = (evaluate_folder(tmp_path / "made", each, "val", LabelsConfig()) for each in (preset, dataset))
    np.testing.assert_array_equal(first.confusion, second.confusion)
    assert (first.miou, first.miou_all) == (second.miou, second.miou_all)
