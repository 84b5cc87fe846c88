"""Trainings that see the same images in the same order, in one process: one batch is made for all of them.

Each does what it would do alone, to the byte: it has its own networks, optimizer and random numbers, and what it breaks
off by is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aream.engine.batches import Batch, SquareImages, TrainingBatches
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
        self.at: tuple[Hashable, int] | None = None
        self.left: Iterator[Item] = iter(())
        self.item: Item

    def batches(self, key: Hashable, first: int, count: int) -> Iterator[Item]:
        for number in range(first, count):
            if self.at != (key, number):
                if self.at != (key, number - 1):
                    self.left = self.begin(key, number)
                self.item, self.at = next(self.left), (key, number)
                if number == count - 1:  # what loads them may rest
                    next(self.left, None)
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
        self.members: list[_Member] = []
        self.batches: Any = None
        self.val_images: Any = None

    def add(self, training: Training, moves: Iterator[Place]) -> None:
        """Args: moves: of the training. It is made, or restored, just before: its random numbers go on from here."""
        if not self.members:
            self.batches = _TrainingBatches(training.batches, training.device)
            self.val_images = _ValImages(training.val_images)
        training.batches, training.val_images = self.batches, self.val_images
        self.members.append(_Member(training, moves))

    def run(self) -> list[Training | AreamError]:
        """Train each to its end; returns it, or what it broke off by: nothing holds its memory then. Who is behind
        comes first, so that those that go on from checkpoints of different steps meet again.

        Raises:
            Exception: a fault of the process or its machine.
        """
        found: dict[int, Training | AreamError] = {}
        going = dict(enumerate(self.members))
        self.members.clear()
        while going:
            index = min(going, key=lambda number: (going[number].place, number))
            restore_random_state(going[index].random)
            try:
                going[index].place = next(going[index].moves)
            except StopIteration:
                found[index] = going.pop(index).training
            except AreamError as error:
                found[index] = _told(error)
                del going[index]
            else:
                going[index].random = random_state()
        return [found[index] for index in sorted(found)]


def _told(error: AreamError) -> AreamError:
    """Without its frames, and those of its causes, which hold the training."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error
