"""The numbers of warm-up epochs that follow from the length of a training."""

from __future__ import annotations

import pytest

from aream.errors import ConfigError
from aream.train_config import TrainConfig


@pytest.mark.parametrize(("epochs", "shared", "rising"), [(60, 10, 5), (1, 0, 0), (2, 0, 0), (12, 2, 1), (100, 16, 8)])
def test_warm_ups_are_shares_of_the_training(epochs, shared, rising):
    config = TrainConfig(epochs=epochs)
    assert (config.warmup, config.lr_warmup) == (shared, rising)
    assert config.resolved() == TrainConfig(epochs=epochs, warmup_epochs=shared, lr_warmup_epochs=rising)


def test_given_numbers_stay():
    config = TrainConfig(epochs=60, warmup_epochs=0, lr_warmup_epochs=60)
    assert (config.warmup, config.lr_warmup) == (0, 60)
    assert config.resolved() == config


@pytest.mark.parametrize("given", [{"warmup_epochs": 4}, {"warmup_epochs": -1}, {"lr_warmup_epochs": 5}])
def test_impossible_numbers_are_refused(given):
    with pytest.raises(ConfigError, match=rf"{next(iter(given))}.*\(4\), got {next(iter(given.values()))}"):
        TrainConfig(epochs=4, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"lr": 1e-3, "lr_floor": 0.0, "weight_decay": 0.0, "head_lr_scale": 10.0},
        {"schedule": "restart", "method_lr": 1e-3},
        {"schedule_step": "iteration", "select": "last", "select_by": "class", "out_of_memory": "accumulate"},
        {"warmup_epochs": 0, "lr_warmup_epochs": 0},
    ],
)
def test_without_epochs_nothing_of_a_training_counts(given):
    plain = TrainConfig(epochs=0)
    found = TrainConfig(epochs=0, **given).resolved()
    assert found == plain.resolved() == found.resolved()
    assert (found.epochs, found.warmup, found.lr_warmup) == (0, 0, 0)
    for read in ({"batch_size": 3}, {"image_size": 32}, {"precision": "fp32"}, {"compile": True}):
        assert TrainConfig(epochs=0, **read).resolved() != plain.resolved()
