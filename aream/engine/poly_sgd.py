"""A training by SGD whose learning rates fall to zero as a power of the steps that are left, as this field's networks
on top of CAMs are trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from aream.config import config
from aream.data.dataset import Dataset
from aream.engine.checkpoints import Checkpoints
from aream.engine.loading import HERE, Loader, Loading
from aream.engine.loop import TrainingLoop
from aream.engine.steps import MicroBatches, OutOfMemoryPolicy, advice, placed
from aream.errors import ConfigError
from aream.images import MAX_SIDE


@config
class PolySgdConfig:
    epochs: int
    """Passes over the train images."""
    batch_size: int
    """Images a step."""
    lr: float
    """Learning rate of pretrained weights at the first step."""
    head_lr_scale: float = 10.0
    """Learning rate of the new layers, as a multiple of ``lr``."""
    momentum: float
    weight_decay: float
    crop: int
    """Side of the square crop, pixels."""
    flip: bool = True
    """Mirror half of the images."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16, as in the ``train`` section."""
    out_of_memory: OutOfMemoryPolicy = "fail"
    """fail or accumulate, as in the ``train`` section; batch norm sees the pieces, not the batch."""

    def __post_init__(self) -> None:
        for name, most in {"epochs": 1_000_000, "batch_size": 65_536, "crop": MAX_SIDE}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: need a number in 1..{most}, got {getattr(self, name)}")
        for name in ("lr", "head_lr_scale"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay: need a decay >= 0, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum: need 0 <= momentum < 1, got {self.momentum}")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise ConfigError(f"precision: allowed are auto, fp32, bf16, fp16, got {self.precision!r}")


@dataclass(frozen=True)
class Samples:
    """A batch: images, and what the network learns from each."""

    all_ids: Sequence[str]
    content: Sequence[Any]

    def split(self, size: int) -> Iterator[Samples]:
        """Parts of at most ``size`` images, in order."""
        for start in range(0, len(self.all_ids), size):
            part = slice(start, start + size)
            yield Samples(self.all_ids[part], self.content[part])


class PolySgdRun(TrainingLoop[Samples]):
    """One network's training. A subclass says what a sample is and what a batch of them adds to the gradients."""

    LOSS: ClassVar[str]
    """The metric that is learned from."""
    NOTHING: ClassVar[str]
    """Message, given the number of images, where no step of an epoch had that loss."""

    def __init__(
        self,
        network: Any,
        groups: list[dict[str, Any]],
        dataset: Dataset,
        config: PolySgdConfig,
        seed: int,
        *,
        device: torch.device,
        section: str,
        loading: Loading = HERE,
        power: float = 0.9,
        iterations: int | None = None,
    ) -> None:
        """
        Args:
            groups: of :func:`learning_groups`.
            section: of the trial, that the ``config`` is.
            power: of the share of steps that are left, by which learning rates fall.
            iterations: steps, the last epoch is cut short at; None: the ``config`` says epochs.
        """
        self.dataset, self.ids, self.seed = dataset, list(dataset.ids("train")), seed
        self.batch_size = min(config.batch_size, len(self.ids))
        self.steps = len(self.ids) // self.batch_size
        self.total, self.power = iterations or config.epochs * self.steps, power
        self.loader = Loader[tuple[str, int, int], list[Tensor]](
            lambda key: self.sample(*key), _stacked, dataset, loading
        )
        super().__init__(
            {"model": placed(network, device)},
            torch.optim.SGD(groups, momentum=config.momentum),
            MicroBatches(self.batch_size, config.out_of_memory, advice(section, config, "crop")),
            epochs=-(-self.total // self.steps),
            precision=config.precision,
            device=device,
        )

    @abstractmethod
    def sample(self, image_id: str, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return what the network learns from an image in a step, drawn from (seed, epoch, step, image) alone."""

    def batches_left(self) -> Iterator[Samples]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.ids))
        steps = range(self.step, min(self.steps, self.total - self.epoch * self.steps))
        chosen = [order[step * self.batch_size : (step + 1) * self.batch_size] for step in steps]
        ids = [[self.ids[index] for index in indices] for indices in chosen]
        keys = [[(image_id, self.epoch, step) for image_id in some] for step, some in zip(steps, ids, strict=True)]
        for some, parts in zip(ids, self.loader.batches(keys), strict=True):
            yield Samples(some, list(zip(*parts, strict=True)))

    def loaders(self) -> Sequence[Loader[Any, Any]]:
        return (self.loader,)

    def set_rates(self) -> None:
        done = self.epoch * self.steps + self.step
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * (1 - done / self.total) ** self.power

    def epoch_row(self, checkpoints: Checkpoints) -> dict[str, float]:
        place = f"epoch {self.epoch + 1}"
        self.figures.refuse_nothing(self.LOSS, place, self.NOTHING.format(len(self.ids)))
        return {"epoch": float(self.epoch + 1)} | self.figures.means(place)


def _stacked(samples: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """One tensor a part: each takes a file descriptor on its way from another process."""
    return [torch.stack(parts) for parts in zip(*samples, strict=True)]


def learning_groups(
    network: Any, new: Iterable[nn.Parameter], config: PolySgdConfig, *, bias_lr_scale: float, decay_biases: bool
) -> list[dict[str, Any]]:
    """Weights, and biases and norms, of the pretrained and of the ``new`` layers, each with its peak learning rate and
    decay; what is frozen is in none."""
    heads = {id(parameter) for parameter in new}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for _, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in heads, parameter.ndim < 2), []).append(parameter)
    found = []
    for (head, bias), parameters in groups.items():
        lr = config.lr * (config.head_lr_scale if head else 1.0) * (bias_lr_scale if bias else 1.0)
        decay = 0.0 if bias and not decay_biases else config.weight_decay
        found.append({"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay})
    return found
