"""The loop of every training: epochs of steps, one row of metrics an epoch.

Everything a continuation needs is in one state (networks, optimizer, loss scaler, epoch, step, random states): a
training restored from it goes on bit for bit, on the same machine, as if it had never stopped.
"""

from __future__ import annotations

import copy
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from aream.engine.checkpoints import Checkpoints, Report
from aream.engine.epoch_means import EpochMeans
from aream.engine.loading import Loader
from aream.engine.pending import PendingChecks
from aream.engine.randomness import random_state, restore_random_state
from aream.engine.steps import MicroBatches, apply_gradients, refuse_row

log = logging.getLogger(__name__)


@runtime_checkable
class _OfImages(Protocol):
    @property
    def all_ids(self) -> Sequence[str]: ...


B = TypeVar("B", bound=_OfImages)
Place = tuple[int, int, int]
"""Epoch, 0 in its steps and 1 at its end, and the number of the batch there that is taken next."""


class TrainingLoop(ABC, Generic[B]):
    """A training of one or more networks. A subclass says what a batch is and what it adds to the gradients."""

    def __init__(
        self,
        networks: Mapping[str, Any],
        optimizer: torch.optim.Optimizer,
        pieces: MicroBatches,
        *,
        epochs: int,
        precision: str,
        device: torch.device,
    ) -> None:
        """``networks`` are modules that lie on the ``device``, by the names that a state has them under."""
        self.networks, self.optimizer, self.pieces = nn.ModuleDict(networks), optimizer, pieces
        self.epochs, self.precision, self.device = epochs, precision, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16" and device.type == "cuda")
        self.epoch, self.step, self.figures, self.checks = 0, 0, EpochMeans(), PendingChecks(device)
        self.history: list[dict[str, float]] = []

    @abstractmethod
    def batches_left(self) -> Iterator[B]:
        """Yield the batches of the epoch, from its ``step`` on."""

    @abstractmethod
    def loaders(self) -> Sequence[Loader[Any, Any]]:
        """That its images come from."""

    @abstractmethod
    def set_rates(self) -> None:
        """Set the optimizer's learning rates for the step."""

    @abstractmethod
    def gradients(self, batch: B, size: int, place: str) -> dict[str, Float64[Tensor, ""]]:
        """The batch's losses by the names they are reported under, left out or NaN where it has nothing to measure by,
        and its gradients from passes of at most ``size`` images; starts from no gradient. Losses stay on the device,
        which would stand still to be asked for them; that they are finite is among the ``checks``."""

    @abstractmethod
    def epoch_row(self, checkpoints: Checkpoints) -> dict[str, float]:
        """Return what is reported of the epoch when its steps are done."""

    def at_epoch_end(self, checkpoints: Checkpoints) -> Iterator[Place]:
        """What is done between an epoch's steps and its row, halted before each batch that it takes."""
        return iter(())

    def own_state(self) -> dict[str, Any]:
        """Return what a subclass continues from besides; it takes it back in :meth:`restore_own_state`."""
        return {}

    def restore_own_state(self, state: Mapping[str, Any]) -> None: ...

    def weights(self) -> dict[str, dict[str, Any]]:
        """Return the state dict of each network, by its name."""
        return {name: network.state_dict() for name, network in self.networks.items()}

    def state(self) -> dict[str, Any]:
        """All that a continuation needs.

        Raises:
            DivergedError: a step since the last state had numbers that are not finite.
        """
        self.checks.settle()
        return {
            **self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "figures": self.figures.plain(),
            "history": self.history,
            **self.own_state(),
            "micro_batch": self.pieces.size,
            "random": random_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``; trainings forked from one state do not share memory.

        A network that the state does not know, whose parameters are the last of the optimizer's, stays as it is.
        """
        state = copy.deepcopy(dict(state))
        for name in self.networks.keys() & state.keys():
            self.networks[name].load_state_dict(state[name])
        optimizer, own = state["optimizer"], self.optimizer.state_dict()["param_groups"]
        groups = [*optimizer["param_groups"], *own[len(optimizer["param_groups"]) :]]
        self.optimizer.load_state_dict(optimizer | {"param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.pieces.size = state["epoch"], state["step"], state["micro_batch"]
        self.figures.sums, self.history = state["figures"], state["history"]
        self.restore_own_state(state)
        restore_random_state(state["random"])

    def run(self, until: int | None = None, *, report: Report, checkpoints: Checkpoints | None = None) -> None:
        """Train up to and without epoch ``until`` (None: to the end), reporting one row of metrics an epoch.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite.
            OutOfMemory: memory does not hold a step.
            DataError: no step of an epoch had anything to learn from.
        """
        for _ in self.moves(until, report=report, checkpoints=checkpoints):
            pass

    def moves(
        self, until: int | None = None, *, report: Report, checkpoints: Checkpoints | None = None
    ) -> Generator[Place, None, None]:
        """The same as :meth:`run`, halted before each batch that it takes: several trainings may take turns."""
        until = self.epochs if until is None else until
        checkpoints = checkpoints or Checkpoints(save=lambda state: None)
        try:
            while self.epoch < until:
                self.networks.train()
                batches = self.batches_left()
                scale, first = self.scaler.get_scale(), self.step
                yield self.epoch, 0, self.step
                for batch in batches:
                    self.figures.add(self.train_step(batch))
                    self.step += 1
                    checkpoints.after_step(self.state)
                    yield self.epoch, 0, self.step
                self.checks.settle()
                self._tell_if_none_counts(scale, self.step - first)
                yield from self.at_epoch_end(checkpoints)
                row = self.epoch_row(checkpoints) | self.pieces.row()
                refuse_row(row, f"epoch {self.epoch + 1}")
                self.history.append(row)
                self.epoch, self.step, self.figures = self.epoch + 1, 0, EpochMeans()
                going_on = self.epoch < until
                keep = checkpoints.after_epoch if going_on else checkpoints.after_last_epoch
                keep(self.state)
                report(row)
                if going_on:
                    checkpoints.leave_if_asked(self.state)
        finally:
            self._close()

    def _tell_if_none_counts(self, scale: float, steps: int) -> None:
        """Warn where the scaler has left out every one of the ``steps`` since it scaled by ``scale``."""
        fell = self.scaler.is_enabled() and steps > 0
        if fell and self.scaler.get_scale() <= scale * self.scaler.get_backoff_factor() ** steps:
            log.warning("epoch %d: gradients of all its steps overflow in fp16: it changed no weight", self.epoch + 1)

    def rehearse(self, steps: int) -> None:
        """A few steps, for what they take; the state is of no use afterwards."""
        self.networks.train()
        again = itertools.chain.from_iterable(self.batches_left() for _ in range(steps))
        for batch in itertools.islice(again, steps):
            self.train_step(batch)
        self._close()

    def _close(self) -> None:
        for loader in self.loaders():
            loader.close()

    def train_step(self, batch: B) -> dict[str, Float64[Tensor, ""]]:
        self.set_rates()
        place = f"epoch {self.epoch + 1}, step {self.step + 1}"
        losses = self.pieces.run(self.networks, lambda size: self.gradients(batch, size, place), place)
        with self.pieces.guarded(place):
            apply_gradients(self.optimizer, self.scaler, self.checks, place, batch.all_ids)
        return losses
