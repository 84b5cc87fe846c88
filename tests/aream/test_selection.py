"""Which epoch's weights a training keeps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from small_networks import CONFIG, CPU, host

from aream.data import shapes
from aream.training import Training
from aream.validation import validation_scores

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

    def row(checkpoints=None):
        return dict(zip(("val/map", "val/map_image"), MAPS[made.epoch], strict=True))

    monkeypatch.setattr(made, "validate", row)
    weights: list[dict[str, torch.Tensor]] = []
    made.run(4, report=lambda _: weights.append({k: v.clone() for k, v in made.backbone.state_dict().items()}))
    state, shown = made.selected()
    assert shown == MAPS[kept][0]
    assert all(torch.equal(state[name], value) for name, value in weights[kept].items())
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
