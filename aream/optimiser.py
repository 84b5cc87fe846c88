"""The learning rate of every step of a host's training."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from aream.backbones.protocol import Backbone
from aream.train_config import TrainConfig

START = 1e-6
"""Learning rate that the rise begins at, where the peak is higher."""
POWER = 0.9
"""Exponent of the share of the training that is left, in a polynomial schedule (DeepLab, MoRe, ACR)."""


def epoch_rate(config: TrainConfig, epoch: int, scale: float = 1.0) -> float:
    """The rate of a whole epoch, 0-based (MCTformer, AReAM on it): the rise is from :data:`START`, the cosine counted
    from the first epoch.

    The authors step the schedule after an epoch, with that epoch's number: an epoch has the rate of the one before, and
    the first two have one. Those after a restart start at the top.

    Args:
        scale: of the peaks; where the rise begins and the cosine ends is the same for all.
    """
    if config.schedule == "restart" and epoch >= config.warmup:
        return _cosine(_method_lr(config) * scale, config.lr_floor, _share_after_warmup(config, float(epoch)))
    last, peak = max(epoch - 1, 0), config.lr * scale
    if last < config.lr_warmup:
        start = min(START, config.lr)
        return start + (peak - start) * last / config.lr_warmup
    if config.schedule == "constant":
        return scale * (_method_lr(config) if epoch >= config.warmup else config.lr)
    if config.schedule == "polynomial":
        return _polynomial(peak, config.lr_floor, last / config.epochs)
    return _cosine(peak, config.lr_floor, last / (config.warmup if config.schedule == "restart" else config.epochs))


def iteration_rate(config: TrainConfig, step: int, steps_an_epoch: int) -> float:
    """The rate at a step of the whole training, 0-based (AReAM's authors on Conformer).

    Straight from ``START`` at the first to ``lr`` at the last step of ``lr_warmup_epochs``; then a cosine over the
    other steps, which begins at ``lr`` and would be at ``lr_floor`` one step after the last.
    """
    rise, epoch = config.lr_warmup * steps_an_epoch, step / steps_an_epoch
    if config.schedule == "restart" and epoch >= config.warmup:
        return _cosine(_method_lr(config), config.lr_floor, _share_after_warmup(config, float(epoch)))
    if step < rise:
        start = min(START, config.lr)
        return start + (config.lr - start) * step / max(rise - 1, 1)
    if config.schedule == "constant":
        return _method_lr(config) if epoch >= config.warmup else config.lr
    if config.schedule == "polynomial":
        return _polynomial(config.lr, config.lr_floor, epoch / config.epochs)
    end = (config.warmup if config.schedule == "restart" else config.epochs) * steps_an_epoch
    return _cosine(config.lr, config.lr_floor, (step - rise) / (end - rise))


def _method_lr(config: TrainConfig) -> float:
    return config.lr if config.method_lr is None else config.method_lr


def _share_after_warmup(config: TrainConfig, epoch: float) -> float:
    return (epoch - config.warmup) / (config.epochs - config.warmup)


def _cosine(peak: float, floor: float, done: float) -> float:
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * done))


def _polynomial(peak: float, floor: float, done: float) -> float:
    return floor + (peak - floor) * (1 - done) ** POWER


class Schedule:
    """Sets the optimizer's rates; all it needs to know is the place in the training, so it has no state."""

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, steps_an_epoch: int) -> None:
        """The optimizer's groups stand at their peak rates."""
        self.optimizer, self.config, self.steps_an_epoch = optimizer, config, steps_an_epoch
        self.scales = [group["lr"] / config.lr for group in optimizer.param_groups]

    def set(self, epoch: int, step: int) -> None:
        """Set the rates before a step of an epoch, both 0-based."""
        by_epoch = self.config.schedule_step == "epoch"
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            if by_epoch:
                group["lr"] = epoch_rate(self.config, epoch, scale)
            else:
                group["lr"] = scale * iteration_rate(
                    self.config, epoch * self.steps_an_epoch + step, self.steps_an_epoch
                )


def parameter_groups(
    backbone: Backbone,
    network: torch.nn.Module | None = None,
    *,
    lr: float,
    head_lr_scale: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Decay and no decay, host, head and last the method's ``network``, which is as new as a head.

    Biases, norms and what the backbone names do not decay.
    """
    undecayed = backbone.no_weight_decay()
    heads = {id(parameter) for parameter in backbone.head_parameters()}
    groups: dict[tuple[bool, Literal["host", "head", "method"]], list[torch.nn.Parameter]] = {}
    for name, parameter in backbone.named_parameters():
        decayed = parameter.ndim > 1 and name not in undecayed
        groups.setdefault((decayed, "head" if id(parameter) in heads else "host"), []).append(parameter)
    for parameter in () if network is None else network.parameters():
        groups.setdefault((parameter.ndim > 1, "method"), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "lr": lr * (1.0 if part == "host" else head_lr_scale),
        }
        for (decayed, part), parameters in groups.items()
    ]
