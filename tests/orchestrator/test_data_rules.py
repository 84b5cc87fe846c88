"""A check of the data and the plan of a sweep never disagree: what one calls wrong, the other refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_voc import SIZE, write_voc

from aream.data.label_maps import _overlap, _shared
from orchestrator import check_data, sweep
from workers.staging import cache

SWEEP = """
name: judged
runs: {folder}/runs
data: {{name: voc2012, root: {root}}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 24, depth: 3, heads: 2}}
train: {{epochs: 1, warmup_epochs: 0, lr_warmup_epochs: 0, image_size: 32}}
{more}
"""
SEGMENTER = "model: {encoder: resnet10t, output_stride: null, level: 1, rates: [1], channels: 16}"
TRAIN = [f"2007_{k:06d}" for k in range(28)]
VAL = [f"2009_{k:06d}" for k in range(4)]


def mask_path(root: Path, image_id: str) -> Path:
    return root / f"SegmentationClass/{image_id}.png"


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def change_masks(change: Callable[[np.ndarray], np.ndarray], ids=(*TRAIN, *VAL)) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for image_id in ids:
            mask = change(read(mask_path(root, image_id)))
            Image.fromarray(mask.astype(np.uint8)).save(mask_path(root, image_id))

    return damage


def shifted(mask: np.ndarray) -> np.ndarray:
    return np.where((mask > 0) & (mask < 255), mask + 2, mask)


def link_images(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    for path in sorted((root / "JPEGImages").iterdir()):
        target = path.rename(elsewhere / path.name)
        path.symlink_to(target)


def overlap(root: Path) -> None:
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(TRAIN))


def without_masks(root: Path) -> None:
    for image_id in TRAIN:
        mask_path(root, image_id).unlink()


def turned(root: Path) -> None:
    """A photo that viewers show upright, and a mask of its stored pixels."""
    path = root / f"JPEGImages/{TRAIN[0]}.jpg"
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(read(path)).save(path, exif=tags)


def labelled(**labels: object) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        table = np.load(root / "cls_labels.npy", allow_pickle=True).item()
        np.save(root / "cls_labels.npy", {name: np.array(labels["all"]) for name in table})  # type: ignore[arg-type]

    return damage


def copied(root: Path) -> None:
    """The same photo in both splits, under two names."""
    for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        shutil.copy(root / folder / f"{TRAIN[0]}.{ending}", root / folder / f"{VAL[0]}.{ending}")


EYE = np.eye(20, dtype=np.float32)
DATA = {
    "as it should be": (lambda root: None, True),
    "links that lead out": (link_images, False),
    "a link inside": (lambda root: _link_inside(root), True),
    "shifted masks": (change_masks(shifted), False),
    "masks of 0 and 255": (change_masks(lambda mask: np.where(mask > 0, 255, 0)), False),
    "train masks of 0 and 255": (change_masks(lambda mask: np.where(mask > 0, 255, 0), TRAIN), False),
    "val masks all ignored": (change_masks(lambda mask: np.full_like(mask, 255), VAL), False),
    "train masks all background": (change_masks(lambda mask: mask * 0, TRAIN), False),
    "one train mask all ignored": (change_masks(lambda mask: np.full_like(mask, 255), TRAIN[:1]), True),
    "the same images in both lists": (overlap, False),
    "the same image under two names": (copied, True),
    "a turned photo": (turned, False),
    "labels without a class": (labelled(all=EYE[0] * 0), False),
    "labels of another class": (labelled(all=EYE[7]), False),
    "colour masks": (lambda root: Image.new("RGB", SIZE[::-1]).save(mask_path(root, TRAIN[3])), False),
}
BY_LABELS = "rank: {metric: val/map}"
SWEEPS = {
    "a search without train masks": (without_masks, "", False),
    "a held-out search without train masks": (without_masks, "labels: {background_threshold: held_out}", False),
    "otsu without train masks": (without_masks, f"labels: {{background_threshold: otsu}}\n{BY_LABELS}", True),
    "a number without train masks": (without_masks, f"labels: {{background_threshold: 0.4}}\n{BY_LABELS}", True),
    "otsu ranked by what needs masks": (without_masks, "labels: {background_threshold: otsu}", False),
    "edges compared by what needs masks": (
        without_masks,
        "labels: {background_threshold: edges}\naxes: {method.alpha_low: {grid: [0.2, 0.3]}}",
        False,
    ),
    "edges compared by what needs none": (
        without_masks,
        "labels: {background_threshold: edges}\naxes: {method.alpha_low: {grid: [0.2, 0.3]}}\nrank: {metric: val/map}",
        True,
    ),
    "one of two rules that searches": (
        without_masks,
        "rank: {metric: val/map}\naxes: {labels.background_threshold: {grid: [otsu, auto]}}",
        False,
    ),
    "an analysis that needs train masks": (
        without_masks,
        f"labels: {{background_threshold: otsu}}\nanalyses: [layer_gain]\n{BY_LABELS}",
        False,
    ),
    "held out": (lambda root: None, "labels: {background_threshold: held_out}", True),
    "no mask in the held-out fifth": (
        lambda root: [mask_path(root, one).unlink() for one in TRAIN if held_out(one)],
        "labels: {background_threshold: held_out}",
        False,
    ),
    "only masks in the held-out fifth": (
        lambda root: [mask_path(root, one).unlink() for one in TRAIN if not held_out(one)],
        "labels: {background_threshold: held_out}",
        False,
    ),
}


def held_out(image_id: str) -> bool:
    return hashlib.sha256(image_id.encode()).digest()[0] % 5 == 0


def _link_inside(root: Path) -> None:
    path = root / f"JPEGImages/{TRAIN[0]}.jpg"
    path.rename(path.with_name("other.jpg"))
    path.symlink_to("other.jpg")


@pytest.fixture
def judge(tmp_path, monkeypatch, capsys):
    """Whether the check of the data alone, that of the sweep's data, and the sweep's plan find nothing wrong."""
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "node"))
    monkeypatch.setenv(cache.HANDED, "")
    root = write_voc(tmp_path / "VOC2012", train=len(TRAIN))

    def judged(damage, more: str = "") -> tuple[bool, bool, bool, str]:
        damage(root)
        path = tmp_path / "sweep.yaml"
        path.write_text(SWEEP.format(folder=tmp_path, root=root, more=more))
        alone = check_data.main(["voc2012", "--root", str(root)])
        with_sweep = check_data.main([str(path), "--deep"])
        capsys.readouterr()
        planned = sweep.main([str(path), "--plan"])
        assert alone in (0, 1)
        assert with_sweep in (0, 1)
        assert planned in (0, 2)
        return alone == 0, with_sweep == 0, planned == 0, capsys.readouterr().err

    return judged


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_data(judge, name):
    damage, good = DATA[name]
    assert judge(damage)[:3] == (good, good, good)


@pytest.mark.parametrize("name", SWEEPS)
def test_what_a_sweep_wants_of_its_masks(judge, name):
    """The data are usable, and by another sweep they are used."""
    damage, more, good = SWEEPS[name]
    alone, with_sweep, planned, said = judge(damage, more)
    assert (alone, with_sweep, planned) == (True, good, good)
    if not good and ("auto" in more or "held_out" in more or not more):
        assert "otsu, edges or a number needs no masks" in said
    if not good and "pseudo/miou" in said:
        assert "rank.metric: val/map needs none either" in said


def write_labels(folder: Path, root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    folder.mkdir()
    for image_id in TRAIN:
        Image.fromarray(change(read(mask_path(root, image_id))).astype(np.uint8)).save(folder / f"{image_id}.png")


def half_wrong(mask: np.ndarray) -> np.ndarray:
    label = np.where(mask == 255, 0, mask)
    label[:, : label.shape[1] // 2] = 0
    return label


LABELS = {
    "of an honest method": (half_wrong, True),
    "the ground truth": (lambda mask: mask, False),
    "the ground truth but for what it ignores": (lambda mask: np.where(mask == 255, 0, mask), False),
    "all background": (lambda mask: mask * 0, False),
    "all ignored": (lambda mask: np.full_like(mask, 255), False),
    "ids out of range": (lambda mask: np.where(mask == 0, 0, 40), False),
    "of other classes": (lambda mask: np.where(half_wrong(mask) > 0, 9, 0), False),
    "of another size": (lambda mask: half_wrong(mask)[:-1], False),
    "colours": (lambda mask: np.stack([half_wrong(mask)] * 3, axis=2), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LABELS)
def test_labels_from_outside(judge, tmp_path, name):
    change, good = LABELS[name]
    write_labels(tmp_path / "labels", tmp_path / "VOC2012", change)
    more = f"segmentation: {{{SEGMENTER}, labels: {tmp_path}/labels}}"
    assert judge(lambda root: None, more)[:3] == (True, good, good)


def small_objects(root: Path) -> None:
    """Of 16 among 3072 pixels: labels that are all background agree with 99.5 % of them."""
    for image_id in TRAIN:
        mask = np.zeros(SIZE, dtype=np.uint8)
        mask[20:24, 20:24] = 1 + int(image_id[-1]) % 2
        Image.fromarray(mask).save(mask_path(root, image_id))
    np.save(root / "cls_labels.npy", {one: EYE[int(one[-1]) % 2] for one in (*TRAIN, *VAL)})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("by", "good"), [(0, False), (1, True), (2, True)])
def test_small_objects_are_no_ground_truth_for_being_small(judge, tmp_path, by, good):
    """Labels moved by so many pixels: IoU 1, 9/23 and 4/28, though pixels agree by more than 99.9 %."""
    small_objects(tmp_path / "VOC2012")
    write_labels(tmp_path / "labels", tmp_path / "VOC2012", lambda mask: np.roll(mask, (by, by), (0, 1)))
    more = f"segmentation: {{{SEGMENTER}, labels: {tmp_path}/labels}}"
    assert judge(lambda root: None, more)[1:3] == (good, good)


def test_a_sample_says_that_it_is_one(judge, tmp_path, capsys):
    judge(lambda root: None)
    check_data.main(["voc2012", "--root", str(tmp_path / "VOC2012"), "--sample", "2", "--json"])
    (checked,) = json.loads(capsys.readouterr().out)
    assert any("a sweep looks at all" in note["words"] for note in checked["notes"])


def test_ground_truth_without_its_outlines_is_ground_truth_and_few_sure_pixels_are_not():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[10:50, 10:50] = 3
    outline = (np.roll(mask, 1, 0) != mask) | (np.roll(mask, 1, 1) != mask)
    sure = np.cumsum(mask == 3).reshape(mask.shape) <= 500
    assert _overlap(*_shared(np.where(outline, 255, mask), mask)) == 1
    assert _overlap(*_shared(np.where((mask == 3) & ~sure, 255, mask), mask)) is None
