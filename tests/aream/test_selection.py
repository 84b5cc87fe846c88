"""Which epoch's weights a training keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from small_networks import CONFIG, CPU, host

from aream.datasets import shapes
from aream.engine.validation import validation_scores
from aream.errors import DataError
from aream.selection import judge, remark, scored_labels
from aream.train import Training
from aream.train_config import TrainConfig

WARM, BY_CLASS, BY_IMAGE, LAST = range(4)
MAPS = {WARM: (0.9, 0.9), BY_CLASS: (0.8, 0.5), BY_IMAGE: (0.6, 0.7), LAST: (0.7, 0.6)}
"""Epoch -> val/map, val/map_image; that of the warm-up does not count."""


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=6, val_images=8))


def training(dataset, **changes) -> Training:
    return Training(host(), None, dataset, dataclasses.replace(CONFIG, **changes), 0, device=CPU)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"select_by": "image"}, BY_IMAGE),
        ({"select_by": "class"}, BY_CLASS),
        ({"select": "last"}, LAST),
        ({}, BY_IMAGE),
    ],
    ids=str,
)
def test_the_weights_of_the_best_epoch_after_the_warm_up_are_kept(dataset, monkeypatch, changes, kept):
    made = training(dataset, epochs=4, warmup_epochs=1, **changes)

    def row(found):
        return dict(zip(("val/map", "val/map_image"), MAPS[made.epoch], strict=True))

    monkeypatch.setattr(made, "judged", row)
    weights: list[dict[str, torch.Tensor]] = []
    made.run(4, report=lambda _: weights.append({k: v.clone() for k, v in made.backbone.state_dict().items()}))
    state, shown, epoch = made.selected()
    assert (shown, epoch) == (MAPS[kept][0], kept + 1)
    assert all(torch.equal(state["model"][name], value) for name, value in weights[kept].items())
    assert not all(torch.equal(weights[LAST][name], value) for name, value in weights[BY_IMAGE].items())


def test_the_map_of_images_is_the_mean_over_them_of_sklearns(dataset):
    made = training(dataset)
    found = made.validate()
    scores, labels = validation_scores(made.backbone, dataset, side=32, batch_size=6, device=CPU, precision="fp32")
    of_images = [average_precision_score(label, score) for score, label in zip(scores, labels, strict=True)]
    of_classes = [
        average_precision_score(label, score) for score, label in zip(scores.T, labels.T, strict=True) if label.any()
    ]
    assert found["val/map_image"] == pytest.approx(np.mean(of_images))
    assert found["val/map"] == pytest.approx(np.mean(of_classes))
    assert found["val/map_image"] != pytest.approx(found["val/map"])


EPOCHS = [  # val/map, val/map_image
    (0.99, 1.0), (0.5, 0.9), (0.8, 0.9), (0.8, 0.9), (0.6, 0.9), (0.7, 0.7)
]  # fmt: skip


@pytest.mark.parametrize(
    ("maps", "select_by", "kept"),
    [
        (EPOCHS, "image", 3),  # ties of the judge: the better val/map, then the later
        (EPOCHS, "class", 3),
        ([(1.0, 1.0)] * 4, "image", 3),
        ([(1.0, 0.5), (0.5, 0.5), (0.5, 0.4)], "image", 1),
    ],
)
def test_ties_go_to_the_better_map_of_classes_then_to_the_later_epoch(dataset, monkeypatch, maps, select_by, kept):
    made = training(dataset, epochs=len(maps), warmup_epochs=1, select_by=select_by)
    monkeypatch.setattr(
        made,
        "judged",
        lambda found: dict(zip(("val/map", "val/map_image"), maps[made.epoch], strict=True)),
    )
    weights = []
    made.run(len(maps), report=lambda _: weights.append({k: v.clone() for k, v in made.backbone.state_dict().items()}))
    state, shown, epoch = made.selected()
    assert (shown, epoch) == (maps[kept][0], kept + 1)
    assert all(torch.equal(state["model"][name], value) for name, value in weights[kept].items())


MIXED = [[1, 0], [0, 1], [1, 1]]
ALONE = [[1], [0], [1]]
TOGETHER = [[1, 1], [0, 0]]
ALWAYS = [[1, 0], [1, 0]]
NOTHING_TO_TELL = [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("labels", "select_by", "judged_by"),
    [
        (MIXED, "image", "val/map_image"),
        (MIXED, "class", "val/map"),
        (ALONE, "image", "val/map"),
        (ALONE, "class", "val/map"),
        (TOGETHER, "image", "val/map"),
        (ALWAYS, "class", "val/map_image"),
        (ALWAYS, "image", "val/map_image"),
        (NOTHING_TO_TELL, "image", "epoch"),
        (NOTHING_TO_TELL, "class", "epoch"),
    ],
)
def test_epochs_are_judged_by_what_can_vary(labels, select_by, judged_by):
    """Against sklearn over many random scores: a judge varies with them, one that was turned down does not."""
    config, shown = TrainConfig(select_by=select_by), np.array(labels) > 0
    assert judge(config, shown) == judged_by
    scores = np.random.default_rng(0).random((50, *shown.shape))
    found = {
        name: {
            float(np.mean([average_precision_score(y, x) for y, x in zip(truth, drawn, strict=True) if y.any()]))
            for truth, drawn in zip(truths, draws, strict=True)
        }
        for name, truths, draws in (
            ("val/map_image", [shown] * 50, scores),
            ("val/map", [shown.T] * 50, scores.transpose(0, 2, 1)),
        )
    }
    asked = {"image": "val/map_image", "class": "val/map"}[select_by]
    assert len(found.get(judged_by, {0, 1})) > 1
    assert (len(found[asked]) == 1) == (judged_by != asked)
    said = remark(config, shown)
    assert (said is None) == (judged_by == asked)
    assert said is None or said.startswith(f"train.select_by: given {select_by}, but the mAP of ")
    assert remark(dataclasses.replace(config, select="last"), shown) is None


def test_val_images_without_a_scored_class_are_no_evidence(dataset, monkeypatch):
    assert scored_labels(dataset).shape == (8, 6)
    monkeypatch.setattr(dataset, "labels", lambda image_id: np.zeros(6, dtype=np.float32))
    with pytest.raises(DataError, match="val: none of the 8 images shows a scored class"):
        training(dataset)
