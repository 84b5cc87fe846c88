"""The learning rate a training has at every step, against the formulas, and which parameters decay."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from small_networks import CONFIG, CPU, host

from aream.backbones import conformer, mctformer_plus
from aream.datasets import shapes
from aream.errors import ConfigError
from aream.optimiser import epoch_rate, iteration_rate, parameter_groups
from aream.train import Training
from aream.train_config import TrainConfig

LR, FLOOR, STEPS = 2e-3, 1e-5, 3
PLUS = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 12, "depth": 3, "heads": 2}


@pytest.fixture(scope="module")
def dataset():
    return shapes.build(shapes.Config(image_size=32, train_images=6, val_images=2))


def rates(dataset, **changes) -> tuple[np.ndarray, np.ndarray]:
    """Of the host and of its head at every step that is taken."""
    shared = {"batch_size": 2, "lr": LR, "lr_floor": FLOOR, "head_lr_scale": 10.0, "warmup_epochs": 0}
    config = dataclasses.replace(CONFIG, **(shared | changes))
    training = Training(host(), None, dataset, config, 0, device=CPU)
    seen = []
    training.optimizer.register_step_pre_hook(
        lambda optimizer, args, kwargs: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    training.run(config.epochs, report=lambda row: None)
    heads = {id(parameter) for parameter in training.backbone.head_parameters()}
    head = [id(group["params"][0]) in heads for group in training.optimizer.param_groups]
    every = np.array(seen)
    return every[:, head.index(False)], every[:, head.index(True)]


@pytest.mark.parametrize("rise", [0, 1, 2, 4])
def test_rates_of_every_iteration(dataset, rise):
    """Linear to the peak, then a cosine over the steps that are left; the head's are ten times as high throughout."""
    found, head = rates(dataset, epochs=4, lr_warmup_epochs=rise, schedule_step="iteration")
    left = (4 - rise) * STEPS
    cosine = FLOOR + 0.5 * (LR - FLOOR) * (1 + np.cos(np.pi * np.arange(left) / max(left, 1)))
    expected = np.concatenate([np.linspace(1e-6, LR, rise * STEPS), cosine])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(head, 10 * expected, rtol=1e-9)


@pytest.mark.parametrize("rise", [0, 1])
def test_a_polynomial_falls_from_the_first_step_on(dataset, rise):
    """As in MoRe: after the rise the rate is where it would be without one."""
    shared = {"epochs": 4, "lr_warmup_epochs": rise, "schedule": "polynomial"}
    found, head = rates(dataset, schedule_step="iteration", **shared)
    expected = FLOOR + (LR - FLOOR) * (1 - np.arange(4 * STEPS) / (4 * STEPS)) ** 0.9
    expected[: rise * STEPS] = np.linspace(1e-6, LR, rise * STEPS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(head, 10 * expected, rtol=1e-9)
    by_epoch, _ = rates(dataset, schedule_step="epoch", **(shared | {"lr_warmup_epochs": 0}))
    after = FLOOR + (LR - FLOOR) * (1 - np.array([0, 0, 1, 2]) / 4) ** 0.9
    np.testing.assert_allclose(by_epoch, np.repeat(after, STEPS), rtol=1e-9)


@pytest.mark.parametrize("rise", [0, 1, 2, 6])
def test_rates_of_every_epoch(dataset, rise):
    """The authors set the next epoch's rate by the number of the one that has ended: epochs 0 and 1 both start low."""
    found, head = rates(dataset, epochs=6, lr_warmup_epochs=rise)
    for series, peak in ((found, LR), (head, 10 * LR)):
        expected, rate = [], 1e-6 if rise else peak
        for epoch in range(6):
            expected += [rate] * STEPS
            if epoch < rise:
                rate = 1e-6 + epoch * (peak - 1e-6) / rise
            else:
                rate = FLOOR + 0.5 * (peak - FLOOR) * (1 + np.cos(np.pi * epoch / 6))
        np.testing.assert_allclose(series, expected, rtol=1e-9)
        assert series[0] == series[STEPS]


@pytest.mark.parametrize("by", ["epoch", "iteration"])
def test_a_constant_rate_changes_once(dataset, by):
    found, head = rates(
        dataset, epochs=5, warmup_epochs=2, lr_warmup_epochs=0, schedule="constant", method_lr=LR / 4, schedule_step=by
    )
    expected = [LR] * 2 * STEPS + [LR / 4] * 3 * STEPS
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(head, 10 * np.array(expected), rtol=1e-9)


def falling(peak, share):
    return FLOOR + 0.5 * (peak - FLOOR) * (1 + np.cos(np.pi * share))


def test_a_restart_begins_a_second_cosine_at_the_end_of_the_warm_up(dataset):
    settings = {"epochs": 5, "warmup_epochs": 2, "lr_warmup_epochs": 0, "schedule": "restart", "method_lr": LR / 2}
    found, head = rates(dataset, **settings, schedule_step="iteration")
    first = [falling(LR, step / (2 * STEPS)) for step in range(2 * STEPS)]
    second = [falling(LR / 2, step / (3 * STEPS)) for step in range(3 * STEPS)]
    np.testing.assert_allclose(found, first + second, rtol=1e-9)
    np.testing.assert_allclose(head, 10 * np.array(first + second), rtol=1e-9)
    found, head = rates(dataset, **settings)
    for series, scale in ((found, 1), (head, 10)):
        expected = [falling(scale * LR, share) for share in (0, 0)]
        expected += [falling(scale * LR / 2, share) for share in (0, 1 / 3, 2 / 3)]
        np.testing.assert_allclose(series, np.repeat(expected, STEPS), rtol=1e-9)


def test_a_second_peak_needs_a_schedule_that_has_one():
    with pytest.raises(ConfigError, match="method_lr: need a rate above 0, at least lr_floor, and schedule constant"):
        TrainConfig(method_lr=1e-4)
    with pytest.raises(ConfigError, match="got 1e-06 with schedule restart and lr_floor 1e-05"):
        TrainConfig(method_lr=1e-6, schedule="restart")
    with pytest.raises(ConfigError, match="restart needs the rise within the warm-up, lr_warmup_epochs <= 1, got 2"):
        TrainConfig(epochs=9, warmup_epochs=1, lr_warmup_epochs=2, schedule="restart")


def test_what_has_no_effect_is_no_part_of_a_training():
    constant = TrainConfig(epochs=6, schedule="constant", lr_floor=1e-6)
    assert constant.resolved() == TrainConfig(epochs=6, schedule="constant", method_lr=constant.lr).resolved()
    assert (
        TrainConfig(epochs=6, schedule="restart", lr_floor=1e-6).resolved()
        != TrainConfig(epochs=6, schedule="restart").resolved()
    )


@pytest.mark.slow
def test_trainings_of_other_lengths_and_second_peaks_share_a_warm_up_that_does_not_depend_on_them(dataset):
    for schedule in ("constant", "restart"):
        one = TrainConfig(epochs=6, warmup_epochs=2, lr_warmup_epochs=1, schedule=schedule, method_lr=1e-4)
        other = TrainConfig(epochs=9, warmup_epochs=2, lr_warmup_epochs=1, schedule=schedule, select="last")
        assert one.of_warmup() == other.of_warmup()
        series = [
            rates(dataset, epochs=config.epochs, lr_warmup_epochs=1, schedule=schedule, method_lr=config.method_lr,
                  schedule_step="iteration", warmup_epochs=2)[0][: 2 * STEPS]
            for config in (one, other, one.of_warmup())
        ]  # fmt: skip
        np.testing.assert_array_equal(series[0], series[1])
        np.testing.assert_array_equal(series[0], series[2])
    cosine = TrainConfig(epochs=6, warmup_epochs=2)
    assert cosine.of_warmup() != TrainConfig(epochs=9, warmup_epochs=2).of_warmup()


def test_the_published_lengths_of_both_warm_ups_follow_the_epochs():
    for epochs, warmup, rise in ((60, 10, 5), (12, 2, 1), (2, 0, 0), (1, 0, 0), (30, 5, 2)):
        config = TrainConfig(epochs=epochs)
        assert (config.warmup, config.lr_warmup) == (warmup, rise)
        named = TrainConfig(epochs=epochs, warmup_epochs=warmup, lr_warmup_epochs=rise)
        assert config.resolved() == named == named.resolved()
    given = TrainConfig(epochs=2, warmup_epochs=1, lr_warmup_epochs=2)
    assert given.resolved() == given
    with pytest.raises(ConfigError, match=r"warmup_epochs: need 0 <= warmup_epochs < epochs \(2\), got 2"):
        TrainConfig(epochs=2, warmup_epochs=2)


def test_a_single_step_of_rise_starts_at_the_bottom(dataset):
    found, _ = rates(dataset, epochs=1, lr_warmup_epochs=1, schedule_step="iteration")
    assert found[0] == pytest.approx(1e-6)
    assert found[-1] == pytest.approx(LR)


@pytest.mark.parametrize(
    ("backbone", "undecayed"),
    [
        (lambda: host(), {"pos_embed"}),
        (lambda: mctformer_plus.build(mctformer_plus.Config(**PLUS), 6, 32), set()),
        (lambda: conformer.build(conformer.Config(dim=12, depth=3, heads=3, base_channels=4), 6, 32), {"cls_token"}),
    ],
    ids=["mctformer_v2", "mctformer_plus", "conformer"],
)
def test_what_does_not_decay(backbone, undecayed):
    """Biases, norms and what the authors of each host leave out: the class tokens of MCTformer do decay."""
    built = backbone()
    names = {id(parameter): name for name, parameter in built.named_parameters()}
    groups = parameter_groups(built, lr=1.0, head_lr_scale=10.0, weight_decay=0.1)
    found = {}
    for group in groups:
        found |= {names[id(parameter)]: (group["weight_decay"], group["lr"]) for parameter in group["params"]}
    heads = {id(parameter) for parameter in built.head_parameters()}
    assert len(found) == len(names)
    for name, parameter in built.named_parameters():
        none = parameter.ndim == 1 or name in undecayed
        assert found[name] == (0.0 if none else 0.1, 10.0 if id(parameter) in heads else 1.0), name


@pytest.mark.parametrize("by", ["epoch", "iteration"])
def test_a_rise_to_lr_does_not_reach_into_the_epochs_that_have_another_peak(by):
    for warmup, rise in itertools.product(range(4), range(5)):
        given = {"epochs": 5, "warmup_epochs": warmup, "lr_warmup_epochs": rise, "schedule": "constant", "lr": LR}
        plain = TrainConfig(schedule_step=by, **given)
        if by == "epoch":
            found = [epoch_rate(plain, epoch) for epoch in range(warmup, 5)]
        else:
            found = [iteration_rate(plain, step, STEPS) for step in range(warmup * STEPS, 5 * STEPS)]
        if set(found) == {LR}:
            assert TrainConfig(schedule_step=by, method_lr=LR / 4, **given).method_lr == LR / 4
        else:
            with pytest.raises(ConfigError, match="method_lr: need the rise to lr to be over when the warm-up is"):
                TrainConfig(schedule_step=by, method_lr=LR / 4, **given)
