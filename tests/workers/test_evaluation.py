"""Labels and CAMs from elsewhere: the same figures as by the evaluators that published them."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from small_folder import NAMES, config, names_csv, write_folder

from aream.datasets import folder
from aream.errors import ConfigError, DataError
from aream.labels.pseudo_labels import LabelsConfig
from orchestrator import evaluate
from workers.evaluation import evaluate_folder

AUTO = LabelsConfig()


@pytest.fixture
def data(tmp_path):
    names_csv(tmp_path / "own/labels.csv", write_folder(tmp_path / "own", count=12))
    (tmp_path / "made").mkdir()
    return folder.build(config(tmp_path / "own", "labels.csv"))


@pytest.fixture
def made(tmp_path):
    return tmp_path / "made"


def maps_of(dataset, image_id: str, rng) -> dict[int, np.ndarray]:
    """Scores of the present classes that ties with thresholds are in: hundredths, as float32."""
    height, width = dataset.mask(image_id).shape
    present = np.flatnonzero(dataset.labels(image_id))
    return {int(k): (rng.integers(0, 101, (height, width)) / 100).astype(np.float32) for k in present}


LAYOUTS = {
    "psa, mctformer": lambda maps: maps,
    "aream": lambda maps: {"key": np.array(list(maps)), "cam": np.stack(list(maps.values()))},
    "irn": lambda maps: {
        "keys": torch.tensor(list(maps)),
        "cam": torch.zeros(len(maps), 3, 3),
        "high_res": np.stack(list(maps.values())),
    },
    "irn, of numpy": lambda maps: {"keys": np.array(list(maps)), "high_res": np.stack(list(maps.values()))},
}


def published(dataset, maps, threshold: float) -> float:
    """As in MCTformer's and AReAM's evaluation: the background's map is the threshold, the first of the largest values
    wins; IoU of every class in turn, those without a pixel 0."""
    classes = len(NAMES) + 1
    right, said, true = (np.zeros(classes) for _ in range(3))
    for image_id, of_image in maps.items():
        gt = dataset.mask(image_id)
        scores = np.zeros((classes, *gt.shape), dtype=np.float32)
        for key, value in of_image.items():
            scores[key + 1] = value
        scores[0] = threshold
        predicted, counted = scores.argmax(axis=0), gt < 255
        for k in range(classes):
            said[k] += ((predicted == k) & counted).sum()
            true[k] += ((gt == k) & counted).sum()
            right[k] += ((gt == k) & (predicted == gt) & counted).sum()
    return float(np.mean(right / (true + said - right + 1e-10)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cams_of_published_layouts_score_as_their_evaluators_do(data, made, layout):
    rng = np.random.default_rng(0)
    maps = {image_id: maps_of(data, image_id, rng) for image_id in data.ids("train")}
    for image_id, found in maps.items():
        np.save(made / f"{image_id}.npy", LAYOUTS[layout](found))
    search = LabelsConfig(thresholds=(0.1, 0.7, 0.05), absent_classes="zero")
    evaluation = evaluate_folder(made, data, "train", search)
    assert len(evaluation.curve) == 13
    for threshold, miou in evaluation.curve:
        assert miou == pytest.approx(published(data, maps, threshold), abs=1e-12)
    assert evaluation.miou == max(miou for _, miou in evaluation.curve)
    assert evaluation.threshold == max(evaluation.curve, key=lambda point: point[1])[0]
    fixed = evaluate_folder(made, data, "train", LabelsConfig(background_threshold=0.33, absent_classes="zero"))
    assert (fixed.threshold, fixed.images) == (0.33, len(maps))
    assert fixed.miou == pytest.approx(published(data, maps, 0.33), abs=1e-12)


def write_labels(data, made, change=lambda mask: mask, named=lambda data, image_id: image_id):
    for image_id in data.ids("train"):
        Image.fromarray(change(data.mask(image_id))).save(made / f"{named(data, image_id)}.png")


def test_label_maps_are_counted_pixel_by_pixel(data, made):
    rng = np.random.default_rng(1)
    drawn = {}

    def change(mask):
        drawn[len(drawn)] = np.where(rng.random(mask.shape) < 0.3, 2, mask).astype(np.uint8)
        drawn[len(drawn) - 1][0] = 255
        return drawn[len(drawn) - 1]

    write_labels(data, made, change, lambda data, image_id: data.image_path(image_id).stem)
    expected = np.zeros((4, 4), dtype=int)
    for label, image_id in zip(drawn.values(), data.ids("train"), strict=True):
        for predicted, true in zip(np.where(label == 255, 0, label).flat, data.mask(image_id).flat, strict=True):
            expected[true, predicted] += 1
    found = evaluate_folder(made, data, "train", AUTO)
    np.testing.assert_array_equal(found.confusion, expected)
    unions = expected.sum(0) + expected.sum(1) - np.diag(expected)
    assert found.miou == pytest.approx(np.mean(np.diag(expected) / unions))
    assert (found.threshold, found.curve) == (None, ())


def test_the_command_says_every_class_and_what_is_left_out(tmp_path, data, made, capsys):
    write_labels(data, made)
    first = data.ids("train")[0]
    (made / f"{first}.png").unlink()
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\ndata: {{name: folder, root: {tmp_path}/own, images: images, masks: masks, classes: classes.txt, "
        "labels: labels.csv, split: {val: 0.4}}\nlabels: {background_threshold: otsu}\n"
    )
    arguments = [str(made), "--data", str(tmp_path / "mine.yaml")]
    assert evaluate.main(arguments) == 2
    assert "no .png file for 1 of the train images" in capsys.readouterr().err
    matrix = tmp_path / "confusion.csv"
    assert evaluate.main([*arguments, "--partial", "--confusion", str(matrix)]) == 0
    text = capsys.readouterr().out
    assert "polyp       1.0000" in text
    assert f"not scored, no file: {first}" in text
    rows = [line.split(",") for line in matrix.read_text().splitlines()]
    assert rows[0] == ["mask \\ label", "background", *NAMES]
    assert all((row[at] != "0") == (at == number) for number, row in enumerate(rows[1:], 1) for at in range(1, 5))
    assert evaluate.main([*arguments, "--partial", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["without"] == [first]


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({7: np.zeros((40, 48), np.float32)}, "need 0..2"),
        ({"cam": 3}, "the key 'cam' is no class"),
        ({0: np.zeros((3, 3), np.float32)}, r"of shape \(3, 3\); need numbers of \(40, 48\)"),
        ({0: np.full((40, 48), np.nan, np.float32)}, "not finite"),
        ({"keys": [0]}, "need keys and high_res together"),
        ({"key": [0]}, "need key and cam together"),
        ({"keys": [0, 1], "high_res": np.zeros((1, 40, 48))}, "2 keys and 1 maps"),
        ({0: Evil()}, "refused as a dictionary of CAMs: it asks for posix.system"),
    ],
)
def test_files_that_are_no_cams_are_refused(data, made, content, words):
    for image_id in data.ids("train"):
        np.save(made / f"{image_id}.npy", content)
    with pytest.raises(DataError, match=words):
        evaluate_folder(made, data, "train", AUTO)


def test_label_maps_of_another_size_or_class_are_refused(data, made):
    write_labels(data, made, lambda mask: mask[:-1])
    with pytest.raises(DataError, match="is 48 x 39, the mask 48 x 40"):
        evaluate_folder(made, data, "train", AUTO)
    write_labels(data, made, lambda mask: mask + np.uint8(1))
    with pytest.raises(DataError, match=r"label ids \[4\] are out of range; allowed are 0..3 and 255"):
        evaluate_folder(made, data, "train", AUTO)


def test_a_folder_of_neither_kind_is_refused(data, made, tmp_path):
    with pytest.raises(ConfigError, match="it has none"):
        evaluate_folder(made, data, "train", AUTO)
    with pytest.raises(ConfigError, match="no such folder"):
        evaluate_folder(tmp_path / "nowhere", data, "train", AUTO)


def test_a_threshold_is_one_of_cams(tmp_path, data, made, capsys):
    write_labels(data, made)
    with pytest.raises(ConfigError, match=f"--threshold: is about CAMs, and {made} holds label maps"):
        evaluate_folder(made, data, "train", LabelsConfig(background_threshold=0.3))
    for wrong in ("5", "0", "nan"):
        assert evaluate.main([str(made), "--data", "shapes", "--threshold", wrong]) == 2
        assert capsys.readouterr().err == f"--threshold: need a number in (0, 1), got {wrong}\n"


def test_a_file_is_of_no_image_where_two_images_are_called_so(tmp_path):
    root, made = tmp_path / "two", tmp_path / "made"
    made.mkdir()
    write_folder(root, count=8)
    for number, path in enumerate([*sorted((root / "images").iterdir()), *sorted((root / "masks").iterdir())]):
        moved = path.parent / "ab"[number % 2] / f"{number % 8 // 2 + 1:03d}{path.suffix}"
        moved.parent.mkdir(exist_ok=True)
        path.rename(moved)
    data = folder.build(config(root, "from_masks"))
    wanted = data.ids("train")
    for image_id in wanted:
        Image.fromarray(data.mask(image_id)).save(made / f"{data.image_path(image_id).stem}.png")
    with pytest.raises(DataError, match=rf"for {len(wanted)} of the train images .* expected {made}/{wanted[0]}\.png;"):
        evaluate_folder(made, data, "train", AUTO)
    write_labels(data, made)
    assert evaluate_folder(made, data, "train", AUTO).images == len(wanted)
