"""Confusions of stored labels with the ground truth, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sweep_results
from PIL import Image

from orchestrator.reporting.drawing import style
from orchestrator.reporting.figures import class_iou, confusion
from orchestrator.reporting.figures.protocol import FigureInput
from orchestrator.reporting.label_errors import label_confusion
from orchestrator.results.dataset import sweep_dataset
from workers.components import build_dataset
from workers.files.labels import write_labels
from workers.stages.pseudo_label import LABELS_FOLDER


@pytest.fixture
def dataset(tmp_path):
    return build_dataset(sweep_results.planner(tmp_path).spec.base.data)


def write(folder, dataset, labels):
    (folder / LABELS_FOLDER).mkdir(parents=True)
    for image_id in dataset.ids("train"):
        write_labels(folder / LABELS_FOLDER / f"{image_id}.png", labels(dataset.mask(image_id)))


def test_right_labels_lie_on_the_diagonal(tmp_path, dataset):
    write(tmp_path, dataset, lambda mask: mask)
    counts, images = label_confusion(tmp_path, dataset)
    assert images == len(dataset.ids("train"))
    assert np.count_nonzero(counts - np.diag(np.diag(counts))) == 0
    pixels = np.concatenate([dataset.mask(image_id).ravel() for image_id in dataset.ids("train")])
    expected = np.bincount(pixels[pixels != 255], minlength=len(counts))
    assert list(np.diag(counts)) == list(expected[: len(counts)])


def test_labels_of_background_alone_miss_everything(tmp_path, dataset):
    write(tmp_path, dataset, np.zeros_like)
    counts, _ = label_confusion(tmp_path, dataset)
    assert counts[:, 1:].sum() == 0
    assert counts[1:, 0].sum() > 0


def test_what_is_missing_or_of_another_size_is_left_out(tmp_path, dataset):
    write(tmp_path, dataset, lambda mask: mask)
    first, second, *_ = dataset.ids("train")
    (tmp_path / LABELS_FOLDER / f"{first}.png").unlink()
    write_labels(tmp_path / LABELS_FOLDER / f"{second}.png", np.zeros((3, 5), np.uint8))
    assert label_confusion(tmp_path, dataset)[1] == len(dataset.ids("train")) - 2
    assert label_confusion(tmp_path / "nowhere", dataset)[1] == 0


def test_classes_and_confusion_are_drawn_of_the_best_labels(tmp_path, dataset):
    plan = sweep_results.planner(tmp_path)
    store = sweep_results.workspace(plan).store()
    count = len(dataset.class_names) + 1

    def files(folder):
        write(folder, dataset, lambda mask: np.where(mask == 255, 0, mask))
        found = {"thresholds": [0.1], "curve": [0.5], "class_iou": [0.5, None, *[0.25] * (count - 2)]}
        (folder / "curve.json").write_text(json.dumps({"refined": found, "unrefined": found}))

    stage = type("Stage", (), {"key": "pseudo_label-0123456789abcdef", "name": "labels", "inputs": {}})
    sweep_results.put(store, stage, 1.0, "2026-01-01T00:00:00+00:00", write=files)
    content = {
        "ranking": [{"label_artifact": stage.key, "label_artifacts": {"0": stage.key}}],
        "data": {"classes": list(dataset.class_names)},
        "segmentation": [],
    }
    results = FigureInput(content, store, (), dataset)
    with style():
        (classes, _), *_ = class_iou.draw(results, tmp_path)
        (matrix, caption), *_ = confusion.draw(results, tmp_path)
    rows = classes.with_suffix(".csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * (count - 1)  # a class in neither is left out
    assert f"{len(dataset.ids('train'))} train images" in caption
    with Image.open(matrix) as picture:
        picture.verify()
    table = [line.split(",") for line in matrix.with_suffix(".csv").read_text().splitlines()]
    assert all(float(row[1 + at]) == 1 for at, row in enumerate(table[1:]))


def test_a_folder_without_a_configuration_has_no_dataset(tmp_path):
    assert sweep_dataset(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"data": {"name": "voc2012", "config": {"root": "gone"}}}))
    assert sweep_dataset(tmp_path) is None
