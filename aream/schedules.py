"""The learning rate of every step of a host's training."""

from __future__ import annotations

import math

import torch
from timm.scheduler import CosineLRScheduler

from aream.train_config import TrainConfig

START = 1e-6
"""Learning rate that the rise begins at, where the peak is higher."""


def iteration_rate(config: TrainConfig, step: int, steps_an_epoch: int) -> float:
    """The rate at a step of the whole training, 0-based (AReAM's authors on Conformer).

    Straight from ``START`` at the first to ``lr`` at the last step of ``lr_warmup_epochs``; then a cosine over the
    other steps, which begins at ``lr`` and would be at ``lr_floor`` one step after the last.
    """
    rise, total = config.lr_warmup * steps_an_epoch, config.epochs * steps_an_epoch
    if step < rise:
        start = min(START, config.lr)
        return start + (config.lr - start) * step / max(rise - 1, 1)
    done = (step - rise) / (total - rise)
    return config.lr_floor + 0.5 * (config.lr - config.lr_floor) * (1 + math.cos(math.pi * done))


class Schedule:
    """Sets the optimizer's rates; all it needs to know is the place in the training, so it has no state."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps_an_epoch: int) -> None:
        """The optimizer's groups stand at their peak rates."""
        self.optimizer, self.config, self.steps_an_epoch = optimizer, config, steps_an_epoch
        self.scales = [group["lr"] / config.lr for group in optimizer.param_groups]
        self.by_epoch = None
        if config.schedule_step == "epoch":
            self.by_epoch = CosineLRScheduler(
                optimizer,
                t_initial=config.epochs,
                lr_min=config.lr_floor,
                warmup_t=config.lr_warmup,
                warmup_lr_init=min(START, config.lr),
            )

    def set(self, epoch: int, step: int) -> None:
        """Before a step of an epoch, both 0-based."""
        if self.by_epoch is not None:
            # The authors step the schedule after an epoch, with that epoch's number: the first two share a rate.
            self.by_epoch.step(max(epoch - 1, 0))
            return
        rate = iteration_rate(self.config, epoch * self.steps_an_epoch + step, self.steps_an_epoch)
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = rate * scale
