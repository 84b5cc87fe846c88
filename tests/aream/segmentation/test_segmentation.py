from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_networks import labels_of
from small_segmenters import SMALL, build

from aream.datasets import shapes
from aream.errors import ConfigError, DataError
from aream.segmentation.config import SegmentationTraining
from aream.segmentation.train import SegmentationRun, segmentation_loss
from aream.segmenters import deeplab_largefov
from aream.train import Checkpoints


@pytest.fixture
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=6, val_images=3))


@pytest.fixture
def segmenter():
    return build("deeplab", 7)


def test_a_crop_that_is_all_ignored_gives_zero_loss_and_zero_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.eq(0).all()


def test_the_loss_is_the_mean_over_labelled_pixels():
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 255], [2, 1]]])
    picked = [-logits[0, :, y, x].log_softmax(0)[labels[0, y, x]] for y, x in ((0, 0), (1, 0), (1, 1))]
    torch.testing.assert_close(segmentation_loss(logits, labels), torch.stack(picked).mean())


def test_training_on_ignored_labels_alone_changes_nothing_but_by_decay(dataset, segmenter):
    config = SegmentationTraining(epochs=1, batch_size=3, crop=40, lr=0.1, weight_decay=0.0)
    before = {name: value.clone() for name, value in segmenter.named_parameters()}
    ignored = np.full((32, 32), 255, dtype=np.uint8)
    run = SegmentationRun(segmenter, dataset, lambda image_id: ignored, config, 0, device=torch.device("cpu"))
    rows = []
    with pytest.raises(DataError, match="epoch 1: no crop of 6 images has a labelled pixel: nothing was learned"):
        run.run(report=rows.append, checkpoints=Checkpoints(save=lambda state: None))
    assert rows == []  # a loss of 0 would be the best there is
    assert all(torch.equal(value, before[name]) for name, value in segmenter.named_parameters())


def test_steps_without_a_labelled_pixel_do_not_make_the_mean_better(dataset):
    """It is that of a training which never meets their images; the rate is too small to change a weight."""
    config = SegmentationTraining(epochs=1, batch_size=1, crop=40, lr=1e-30, weight_decay=0.0)
    ignored, labels = set(dataset.ids("train")[:3]), labels_of(dataset)

    def loss(ids):
        blank = np.full((32, 32), 255, dtype=np.uint8)
        torch.manual_seed(3)
        run = SegmentationRun(
            build("deeplab", 7).eval(), dataset, lambda i: blank if i in ignored else labels(i), config, 0,
            device=torch.device("cpu"),
        )  # fmt: skip
        run.segmenter.train = lambda mode=True: run.segmenter  # no dropout, which is drawn step by step
        run.ids, run.steps, run.total, rows = list(ids), len(ids), len(ids), []
        run.run(report=rows.append, checkpoints=Checkpoints(save=lambda state: None))
        return rows[0]["train/segmentation_loss"]

    every = dataset.ids("train")
    assert loss(every) == pytest.approx(loss([i for i in every if i not in ignored]), rel=1e-5)


def trained(dataset, config):
    """The rates of every step, the rows, and the segmenter at the end."""
    model = build("deeplab", 7)
    torch.manual_seed(3)
    run = SegmentationRun(model, dataset, labels_of(dataset), config, 0, device=torch.device("cpu"))
    rates: list[list[float]] = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append([group["lr"] for group in optimizer.param_groups])
    )
    rows: list[dict[str, float]] = []
    run.run(report=rows.append, checkpoints=Checkpoints(save=lambda state: None))
    return rates, rows, model


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_rates_fall_by_a_power_of_what_is_left(dataset, power):
    config = SegmentationTraining(iterations=5, batch_size=2, crop=32, lr=0.02, head_lr_scale=3.0, poly_power=power)
    rates, rows, _ = trained(dataset, config)
    expected = [[scale * 0.02 * (1 - step / 5) ** power for scale in (1, 3)] for step in range(5)]
    assert np.array(rates)[:, [0, -1]].tolist() == pytest.approx(np.array(expected))
    assert [row["epoch"] for row in rows] == [1.0, 2.0]  # 3 steps, then 2


def test_iterations_are_epochs_where_they_end_together(dataset):
    config = SegmentationTraining(epochs=2, batch_size=2, crop=32, lr=0.02)
    by_epochs = trained(dataset, config)
    by_steps = trained(dataset, dataclasses.replace(config, epochs=9, iterations=6))
    assert by_epochs[:2] == by_steps[:2]
    one, other = by_epochs[2].state_dict(), by_steps[2].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (config.known_epochs, dataclasses.replace(config, iterations=6).known_epochs) == (2, 0)


def test_groups_are_transcams(dataset):
    """1, 2, 10 and 20 times the rate, no decay of biases, nothing frozen."""
    model = deeplab_largefov.build(dataclasses.replace(SMALL["deeplab_largefov"], head="transcam"), 7, 32)
    config = SegmentationTraining(lr=1e-3, head_lr_scale=10.0, bias_lr_scale=2.0, decay_biases=False, weight_decay=5e-4)
    run = SegmentationRun(model, dataset, labels_of(dataset), config, 0, device=torch.device("cpu"))
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in run.optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        if name == "trunk.conv1a.weight":
            assert id(parameter) not in found
            continue
        rate = 1e-3 * (10 if name.startswith("head.") else 1) * (2 if parameter.ndim == 1 else 1)
        assert found[id(parameter)] == pytest.approx((rate, 0.0 if parameter.ndim == 1 else 5e-4)), name


def test_momentum_and_decay_are_what_the_equation_says(dataset):
    """v <- m v + g + d w, w <- w - lr v; on ignored labels g is 0."""
    model = build("deeplab", 7)
    before = {name: value.detach().clone().double() for name, value in model.named_parameters()}
    config = SegmentationTraining(
        iterations=3, batch_size=2, crop=32, lr=0.1, head_lr_scale=1.0, momentum=0.5, weight_decay=0.2, poly_power=1.0
    )
    ignored = np.full((32, 32), 255, dtype=np.uint8)
    run = SegmentationRun(model, dataset, lambda image_id: ignored, config, 0, device=torch.device("cpu"))
    with pytest.raises(DataError, match="nothing was learned"):
        run.run(report=lambda row: None, checkpoints=Checkpoints(save=lambda state: None))
    for name, value in model.named_parameters():
        weight, velocity = before[name], torch.zeros_like(before[name])
        for step in range(3):
            velocity = 0.5 * velocity + 0.2 * weight
            weight = weight - 0.1 * (1 - step / 3) * velocity
        torch.testing.assert_close(value.detach().double(), weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": 0}, "iterations: need null or a number in 1..100000000, got 0"),
        ({"momentum": 1.0}, "momentum: need 0 <= momentum < 1, got 1.0"),
        ({"bias_lr_scale": 0.0}, "bias_lr_scale: need a positive number, got 0.0"),
        ({"poly_power": -1.0}, "poly_power: need a positive number, got -1.0"),
        ({"hsv_jitter": 91}, "hsv_jitter: need a shift in 0..90, got 91"),
        ({"scale": (0.0, 1.0)}, r"scale: need 0 < low <= high <= 8, got \[0.0, 1.0\]"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        SegmentationTraining(**change)
