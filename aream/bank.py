"""Trainings that see the same images in the same order, in one process: one batch is made for all of them.

Each does what it would do alone, to the byte: it has its own networks, optimizer and random numbers, and what it breaks
off by is its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from aream.engine.batches import Batch, SquareImages, TrainingBatches
from aream.engine.device_images import DeviceImages
from aream.engine.loop import Place
from aream.engine.randomness import random_state, restore_random_state
from aream.errors import AreamError
from aream.train import Training

Item = TypeVar("Item")


class _InTurn(Generic[Item]):
    """Batches for several readers that ask for the same one after the other: each is made once."""

    def __init__(self, begin: Callable[[Any, int], Iterator[Item]]) -> None:
        """``begin`` makes those of a list that a key names, from a number on."""
        self.begin = begin
        self.seconds = 0.0
        """That making them took."""
        self.at: tuple[Hashable, int] | None = None
        self.left: Iterator[Item] = iter(())
        self.item: Item

    def batches(self, key: Hashable, first: int, count: int) -> Iterator[Item]:
        for number in range(first, count):
            if self.at != (key, number):
                if self.at != (key, number - 1):
                    self.left = self.begin(key, number)
                began, self.at = time.monotonic(), None  # what fails, fails for each reader
                self.item = next(self.left)
                if number == count - 1:  # what loads them may rest
                    next(self.left, None)
                self.at, self.seconds = (key, number), self.seconds + time.monotonic() - began
            yield self.item


class _TrainingBatches:
    """Stands for the batches of each of the trainings."""

    def __init__(self, batches: TrainingBatches, device: Any) -> None:
        self.batches, self.batch_size, self.loader = batches, batches.batch_size, batches.loader
        self.shared = _InTurn[Batch](lambda epoch, step: (batch.to(device) for batch in batches.epoch(epoch, step)))

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        return self.shared.batches(epoch, first_step, len(self))


class _ValImages:
    """Stands for the val images of each; one process reads them all."""

    def __init__(self, images: SquareImages) -> None:
        self.images, self.loader = images, images.loader
        self.ids: Sequence[str] = ()
        self.shared = _InTurn[Batch](lambda size, first: images.batches(self.ids[first * size :], size))

    def batches(self, ids: Sequence[str], batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        self.ids = ids
        return self.shared.batches(batch_size, 0, -(-len(ids) // batch_size))


@dataclass
class _Member:
    training: Training
    moves: Iterator[Place]
    random: dict[str, Any] = field(default_factory=random_state)
    """States of its random numbers while others have their turn."""
    place: Place = (0, 0, 0)


class Bank:
    """Trainings of one host, data, configuration and seed, which differ in their methods alone."""

    def __init__(self) -> None:
        self.going: dict[int, _Member] = {}
        self.found: dict[int, Training | AreamError] = {}
        self.seconds: list[float] = []
        """Of each one's own steps and validation, without what is loaded for all. On a GPU, which works behind, the
        wait for a step may fall into the turn of the next one."""
        self.batches: Any = None
        self.val_images: Any = None
        self.kept_images: DeviceImages | None = None

    def add(self, training: Training, moves: Iterator[Place]) -> None:
        """Args: moves: of the training. It is made, or restored, just before: its random numbers go on from here."""
        if not self.going:
            self.batches = _TrainingBatches(training.batches, training.device)
            self.val_images = _ValImages(training.val_images)
            self.kept_images = training.pieces.spare
        training.batches, training.val_images = self.batches, self.val_images
        training.pieces.spare = self.kept_images
        training.pieces.may_shrink = False  # memory that others have is no reason
        self.seconds.append(0.0)
        self.going[len(self.seconds) - 1] = _Member(training, moves)

    def begin(self) -> None:
        """Let the one that was added last take a step: it holds then what it will hold, and the process has held the
        most that a step takes."""
        index = max(self.going)
        self._turn(index)  # it halts before its first batch
        if index in self.going:
            self._turn(index)

    def each_needs(self) -> int:
        """Bytes that one more training adds to what the process holds: they take turns, so a step's own memory is
        that of one."""
        return max((_held_bytes(member.training) for member in self.going.values()), default=0)

    def run(self) -> list[Training | AreamError]:
        """Train each to its end; returns it, or what it broke off by: nothing holds its memory then. Who is behind
        comes first, so that those that go on from checkpoints of different steps meet again.

        Raises:
            Exception: a fault of the process or its machine.
        """
        while self.going:
            self._turn(min(self.going, key=lambda number: (self.going[number].place, number)))
        return [self.found[index] for index in sorted(self.found)]

    def _turn(self, index: int) -> None:
        member = self.going[index]
        restore_random_state(member.random)
        began, loaded = time.monotonic(), self._loading()
        try:
            member.place = next(member.moves)
        except StopIteration:
            self.found[index] = self.going.pop(index).training
        except AreamError as error:
            self.found[index] = _told(error)
            del self.going[index]
        else:
            member.random = random_state()
        finally:
            self.seconds[index] += time.monotonic() - began - (self._loading() - loaded)

    def _loading(self) -> float:
        return self.batches.shared.seconds + self.val_images.shared.seconds


def _held_bytes(training: Training) -> int:
    """Of the tensors that stay between its steps: the networks, a copy of those of the best epoch, gradients, and the
    optimizer's state."""
    weights = [tensor for network in training.networks.values() for tensor in network.state_dict().values()]
    gradients = [
        one.grad for network in training.networks.values() for one in network.parameters() if one.grad is not None
    ]
    moments = [
        value for state in training.optimizer.state.values() for value in state.values() if torch.is_tensor(value)
    ]
    return sum(tensor.nbytes for tensor in (*weights, *weights, *gradients, *moments))


def _told(error: AreamError) -> AreamError:
    """Without its frames, and those of its causes, which hold the training."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error
