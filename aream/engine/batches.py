"""Images to tensors, with randomness that depends on (seed, epoch, image) alone.

A training that is killed and resumed, or loaded by other numbers of loader processes, sees the same pixels in
the same order, because nothing about them lives in a random state that would have to be carried along.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from aream import augmentations, discover
from aream.augmentations.protocol import Augment, DeviceAugment
from aream.config import Component
from aream.data.dataset import Dataset
from aream.data.decoded import Place, packed, unpacked
from aream.engine.device_images import DeviceImages
from aream.engine.loading import HERE, Loader, Loading
from aream.engine.ranks import part_of
from aream.errors import ConfigError
from aream.images import MAX_SCALE, MAX_SCALES, Statistics, to_tensor

CPU = torch.device("cpu")
Sample = tuple[Tensor, Tensor, str, Tensor | None]
"""Pixels, labels, id, and where the pixels are no padding."""
Key = tuple[int, int, tuple[int, int] | None]
"""Epoch, index, and width and height of an image that the device has."""


def check_scales(key: str, scales: Sequence[float]) -> None:
    """Refuse scales of images that no image has.

    Raises:
        ConfigError: none, too many, or one outside (0, MAX_SCALE].
    """
    if not 1 <= len(scales) <= MAX_SCALES or not all(0 < scale <= MAX_SCALE for scale in scales):
        raise ConfigError(
            f"{key}: need one or more positive scales of at most {MAX_SCALE:g}, at most {MAX_SCALES} of them, "
            f"got {list(scales[:MAX_SCALES])}"
        )


@dataclass(frozen=True)
class Batch:
    images: Float[Tensor, "b 3 h w"]
    """Normalised with the backbone's mean and std."""
    labels: Float[Tensor, "b c"]
    ids: Sequence[str]
    first: int = 0
    """Where they start in the batch that they are one process's part of."""
    whole: Sequence[str] = ()
    """The ids of that batch; none: these images are all of it."""
    valid: Bool[Tensor, "b h w"] | None = None
    """False where an image is padding; None: nowhere."""

    @property
    def all_ids(self) -> Sequence[str]:
        return self.whole or self.ids

    def to(self, device: torch.device) -> Batch:
        images, labels = (part.to(device, non_blocking=True) for part in (self.images, self.labels))
        valid = None if self.valid is None else self.valid.to(device, non_blocking=True)
        return dataclasses.replace(self, images=images, labels=labels, valid=valid)

    def split(self, size: int) -> list[Batch]:
        """Parts of at most ``size`` images, in order."""
        return [
            Batch(
                self.images[i : i + size],
                self.labels[i : i + size],
                self.ids[i : i + size],
                self.first + i,
                self.all_ids,
                None if self.valid is None else self.valid[i : i + size],
            )
            for i in range(0, len(self.ids), size)
        ]

    def rgb(self, mean: Statistics, std: Statistics) -> Float[Tensor, "b 3 h w"]:
        """The images in [0, 1]."""
        scale = self.images.new_tensor(std)[:, None, None]
        shift = self.images.new_tensor(mean)[:, None, None]
        return (self.images * scale + shift).clamp(0, 1)


@contextlib.contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Run the body with python, numpy and torch seeded from ``parts``; the states before it come back after."""
    seed = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def resized(image: Image.Image, side: int) -> Image.Image:
    """A square of ``side`` pixels, bicubic; the aspect ratio is given up, as the host does at 224 px."""
    return image.resize((side, side), Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class _Undone:
    """A batch on its way to the device that changes its pixels: in one tensor, as many would take a file descriptor
    each."""

    ids: Sequence[str]
    places: list[Place]
    """Of those that the device had not when the batch was asked for."""
    pixels: UInt8[Tensor, " n"]
    draws: list[Any]
    labels: Float[Tensor, "b c"]

    @classmethod
    def of(cls, samples: list[tuple[UInt8[np.ndarray, "h w 3"] | None, Any, Tensor, str]]) -> _Undone:
        images, draws, labels, ids = zip(*samples, strict=True)
        brought = ((image_id, image) for image_id, image in zip(ids, images, strict=True) if image is not None)
        places, pixels = packed(brought)
        return cls(ids, places, torch.from_numpy(pixels), list(draws), torch.stack(labels))


class _TrainingImages:
    def __init__(
        self,
        dataset: Dataset,
        side: int,
        augmentation: Component,
        statistics: tuple[Statistics, Statistics],
        seed: int,
    ) -> None:
        self.dataset, self.seed, self.ids = dataset, seed, list(dataset.ids("train"))
        module = discover.load(augmentations, augmentation.name)
        self.augment: Augment = module.build(augmentation.config, side, *statistics)

    def __len__(self) -> int:
        return len(self.ids)

    def made(self, key: Key) -> Sample:
        epoch, image_id = key[0], self.ids[key[1]]
        image = self.dataset.image(image_id)
        with seeded(self.seed, epoch, image_id):
            pixels, valid = self.augment(image)
        return pixels, self._labels(image_id), image_id, valid

    def drawn(self, key: Key) -> tuple[UInt8[np.ndarray, "h w 3"] | None, Any, Tensor, str]:
        """The image as it is, where the device has it not, and what is to happen to it."""
        assert isinstance(self.augment, DeviceAugment)
        epoch, image_id, size = key[0], self.ids[key[1]], key[2]
        pixels = None
        if size is None:
            image = self.dataset.image(image_id)
            pixels, size = np.array(image), image.size
        with seeded(self.seed, epoch, image_id):
            draws = self.augment.draw(size)
        return pixels, draws, self._labels(image_id), image_id

    def _labels(self, image_id: str) -> Tensor:
        return torch.from_numpy(self.dataset.labels(image_id))


class TrainingBatches:
    """The batches of any epoch from any step on, or one process's part of each."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        side: int,
        batch_size: int,
        augmentation: Component,
        mean: Statistics,
        std: Statistics,
        seed: int,
        loading: Loading = HERE,
        rank: int = 0,
        ranks: int = 1,
        device: torch.device = CPU,
        kept: DeviceImages | None = None,
    ) -> None:
        """
        Args:
            device: that of the network, where an augmentation changes pixels that can.
            kept: images that stay there, of such an augmentation alone; None: they are brought there in each epoch.
        """
        self.images, self.seed, self.device = (
            _TrainingImages(dataset, side, augmentation, (mean, std), seed),
            seed,
            device,
        )
        self.kept = kept
        self.loader: Loader[Key, Batch | _Undone]
        if isinstance(self.images.augment, DeviceAugment):
            self.loader = Loader(self.images.drawn, _Undone.of, dataset, loading)
        else:
            self.loader = Loader(self.images.made, _collate, dataset, loading)
        self.batch_size = min(batch_size, len(self.images))
        if self.batch_size < ranks:
            raise ConfigError(
                f"train.batch_size: need an image for each of the {ranks} processes of a trial, got {self.batch_size}"
            )
        self.part = part_of(self.batch_size, rank, ranks)

    def __len__(self) -> int:
        """Batches an epoch; the last incomplete one is dropped, as the host does."""
        return len(self.images) // self.batch_size

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        steps = [
            order[step * self.batch_size : (step + 1) * self.batch_size].tolist()
            for step in range(first_step, len(self))
        ]
        keys = ([(epoch, index, self._size_there(index)) for index in step[self.part]] for step in steps)
        for step, loaded in zip(steps, self.loader.batches(keys), strict=True):
            whole = [self.images.ids[index] for index in step]
            batch = self._done(loaded)
            yield dataclasses.replace(batch, first=self.part.start, whole=whole)

    def _size_there(self, index: int) -> tuple[int, int] | None:
        return None if self.kept is None else self.kept.size(self.images.ids[index])

    def _done(self, loaded: Batch | _Undone) -> Batch:
        if isinstance(loaded, Batch):
            return loaded
        assert isinstance(self.images.augment, DeviceAugment)
        pixels = loaded.pixels.to(self.device, non_blocking=True)
        brought = dict(unpacked(loaded.places, pixels))
        if self.kept is not None:
            self.kept.offer(brought, pixels.nbytes)
        images = [self._there(image_id, brought) for image_id in loaded.ids]
        return Batch(self.images.augment.changed(images, loaded.draws), loaded.labels, loaded.ids)

    def _there(self, image_id: str, brought: Mapping[str, UInt8[Tensor, "h w 3"]]) -> UInt8[Tensor, "h w 3"]:
        image = brought.get(image_id)
        if image is None and self.kept is not None:
            image = self.kept.images.get(image_id)
        if image is None:  # it has left the device since the batch was asked for
            image = torch.from_numpy(np.array(self.images.dataset.image(image_id))).to(self.device)
        return image


class SquareImages:
    """Whole images, resized to a square, as they are measured on."""

    def __init__(
        self, dataset: Dataset, side: int, statistics: tuple[Statistics, Statistics], loading: Loading = HERE
    ) -> None:
        """``statistics``: mean and standard deviation."""
        self.dataset, self.side, self.statistics = dataset, side, statistics
        self.loader = Loader(self._made, _collate, dataset, loading)

    def batches(self, ids: Sequence[str], batch_size: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """In order; with several ``ranks`` every n-th batch."""
        starts = range(rank * batch_size, len(ids), batch_size * ranks)
        return self.loader.batches([ids[start : start + batch_size] for start in starts])

    def _made(self, image_id: str) -> Sample:
        pixels = to_tensor(resized(self.dataset.image(image_id), self.side), *self.statistics)
        return pixels, torch.from_numpy(self.dataset.labels(image_id)), image_id, None


def raw_images(dataset: Dataset, ids: Iterable[str], loading: Loading = HERE) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The images as they are, in order; ids are taken a few ahead."""

    def made(image_id: str) -> Tensor:
        return torch.from_numpy(np.array(dataset.image(image_id)))

    loader = Loader[str, list[Tensor]](made, list, dataset, loading)
    return (pixels.numpy() for (pixels,) in loader.batches([image_id] for image_id in ids))


def _collate(samples: list[Sample]) -> Batch:
    images, labels, ids, valid = zip(*samples, strict=True)
    padded = None if valid[0] is None else torch.stack(valid)
    return Batch(torch.stack(images), torch.stack(labels), ids, valid=padded)
