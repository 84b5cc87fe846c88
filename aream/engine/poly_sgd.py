"""A training by SGD whose learning rates fall to zero as a polynomial of the steps, as this field's networks on top of
CAMs are trained. As exact on continuation as a host's (see :mod:`aream.training`)."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from aream.engine.checkpoints import Checkpoints, Report
from aream.engine.epoch_means import EpochMeans
from aream.engine.randomness import random_state, restore_random_state
from aream.engine.steps import OutOfMemoryPolicy, Pieces, apply_gradients, refuse_row

POWER = 0.9


@runtime_checkable
class PolySgdConfig(Protocol):
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def out_of_memory(self) -> OutOfMemoryPolicy: ...


class PolySgdRun(ABC):
    """One network's training. A subclass says what a sample is and what a batch of them adds to the gradients."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        ids: Sequence[str],
        config: PolySgdConfig,
        seed: int,
        *,
        device: torch.device,
        advice: str,
    ) -> None:
        """
        Args:
            optimizer: its groups hold their peak learning rate as ``peak_lr``.
            advice: what to change where memory does not hold a step.
        """
        self.network, self.optimizer, self.ids, self.seed, self.device = network, optimizer, list(ids), seed, device
        self.epochs, self.precision = config.epochs, config.precision
        fp16 = config.precision == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.batch_size = min(config.batch_size, len(self.ids))
        self.steps = len(self.ids) // self.batch_size
        self.pieces = Pieces(self.batch_size, config.out_of_memory, advice)
        self.epoch, self.step = 0, 0
        self.figures = EpochMeans()
        self.history: list[dict[str, float]] = []

    @abstractmethod
    def sample(self, image_id: str) -> Any:
        """What the network learns from an image in this epoch, drawn from (seed, epoch, image) alone."""

    @abstractmethod
    def gradients(self, ids: Sequence[str], samples: Sequence[Any], size: int, place: str) -> dict[str, float]:
        """The batch's losses by the names they are reported under, those left out that it has nothing to measure by,
        and its gradients from passes of at most ``size`` images; starts from no gradient."""

    @abstractmethod
    def refuse_nothing(self, place: str) -> None:
        """Raises ``DataError`` where no step of the epoch had anything to learn from."""

    def state(self) -> dict[str, Any]:
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "figures": self.figures.sums,
            "history": self.history,
            "micro_batch": self.pieces.size,
            "random": random_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.pieces.size = state["epoch"], state["step"], state["micro_batch"]
        self.figures.sums, self.history = state["figures"], state["history"]
        restore_random_state(state["random"])

    def run(self, *, report: Report, checkpoints: Checkpoints) -> None:
        """Train to the end, reporting one row an epoch.

        Raises:
            DivergedError: a loss or a gradient is NaN or infinite.
            OutOfMemory: memory does not hold a step.
            DataError: no step of an epoch had anything to learn from.
        """
        while self.epoch < self.epochs:
            self._epoch(checkpoints)
            self.refuse_nothing(f"epoch {self.epoch + 1}")
            row = {"epoch": float(self.epoch + 1)} | self.figures.means() | self.pieces.row()
            refuse_row(row, f"epoch {self.epoch + 1}")
            self.history.append(row)
            self.epoch, self.step, self.figures = self.epoch + 1, 0, EpochMeans()
            if self.epoch < self.epochs:  # after the last one the result itself is kept
                checkpoints.after_epoch(self.state)
            report(row)
            if self.epoch < self.epochs:
                checkpoints.leave_if_asked(self.state)

    def rehearse(self, steps: int) -> None:
        """A few steps, for what they take; the state is of no use afterwards."""
        self.network.train()
        for _ in range(steps):
            self._train_step(self.ids[: self.batch_size])

    def _epoch(self, checkpoints: Checkpoints) -> None:
        self.network.train()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.ids))
        while self.step < self.steps:
            chosen = order[self.step * self.batch_size : (self.step + 1) * self.batch_size]
            self.figures.add(self._train_step([self.ids[index] for index in chosen]))
            self.step += 1
            if self.step < self.steps:
                checkpoints.after_step(self.state)

    def _train_step(self, ids: Sequence[str]) -> dict[str, float]:
        done = (self.epoch * self.steps + self.step) / (self.epochs * self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * (1 - done) ** POWER
        samples = [self.sample(image_id) for image_id in ids]
        place = f"epoch {self.epoch + 1}, step {self.step + 1}"
        losses = self.pieces.run(self.network, lambda size: self.gradients(ids, samples, size, place), place)
        with self.pieces.guarded(place):
            apply_gradients(self.optimizer, self.scaler, place, ids)
        return losses
