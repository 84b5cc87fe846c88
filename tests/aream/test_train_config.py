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
