"""Images that are decoded once and read again and again, by all that share them.

Decoded, an image is some ten times as large as its file, and read back in a tenth of the time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from aream.data.dataset import Dataset

SAMPLED = 16
"""Images by which the size of all is estimated."""


class SharedImages(ABC):
    """Decoded images of one dataset. Any may be lost, or refused, at any time: then it is decoded again."""

    read, decoded = 0, 0
    """Images that this process and its loaders had from here, and that they decoded."""
    largest = 0
    """Bytes of the largest that this process decoded, kept or not."""

    def __init__(self, room: int) -> None:
        """``room``: bytes that it holds at most."""
        self.room = room

    @abstractmethod
    def get(self, image_id: str) -> UInt8[np.ndarray, "h w 3"] | None: ...

    @abstractmethod
    def offer(self, image_id: str, pixels: UInt8[np.ndarray, "h w 3"]) -> None: ...

    @abstractmethod
    def at_hand(self) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        """All that can be read now; in processes forked from this one too, for as long as this object lives."""


class OwnImages(SharedImages):
    """Of this process alone."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.images: dict[str, UInt8[np.ndarray, "h w 3"]] = {}
        self.bytes = 0

    def get(self, image_id: str) -> UInt8[np.ndarray, "h w 3"] | None:
        return self.images.get(image_id)

    def offer(self, image_id: str, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        if image_id not in self.images and self.bytes + pixels.nbytes <= self.room:
            self.images[image_id] = pixels.copy()  # a loader's process hands over parts of what lies in /dev/shm
            self.bytes += pixels.nbytes

    def at_hand(self) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        return self.images


class ForLoader(SharedImages):
    """In a process that loads for another one: what that one had at hand when it was forked, and what is new here."""

    def __init__(self, images: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> None:
        super().__init__(room=0)
        self.images, self.new = images, dict[str, UInt8[np.ndarray, "h w 3"]]()

    def get(self, image_id: str) -> UInt8[np.ndarray, "h w 3"] | None:
        return self.images.get(image_id, self.new.get(image_id))

    def offer(self, image_id: str, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        self.new[image_id] = pixels

    def at_hand(self) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        return self.images


class DecodedOnce:
    """A dataset whose images come from where they were decoded before, with the same pixels."""

    def __init__(self, dataset: Dataset, images: SharedImages) -> None:
        self.dataset, self.images = dataset, images

    def image(self, image_id: str) -> Image.Image:
        pixels = self.images.get(image_id)
        if pixels is not None:
            self.images.read += 1
            return Image.fromarray(pixels)
        image = self.dataset.image(image_id)
        pixels = np.array(image)
        self.images.decoded += 1
        self.images.largest = max(self.images.largest, pixels.nbytes)
        self.images.offer(image_id, pixels)
        return image

    def expected_bytes(self) -> int:
        """Of all images decoded, by some of each split."""
        total = 0
        for split in ("train", "val"):
            ids = self.ids(split)
            some = ids[:: max(1, len(ids) // SAMPLED)][:SAMPLED]
            sizes = [self.image(image_id).size for image_id in some]
            total += sum(3 * width * height for width, height in sizes) * len(ids) // max(1, len(some))
        return total

    @property
    def class_names(self) -> Sequence[str]:
        return self.dataset.class_names

    @property
    def scored_classes(self) -> Sequence[int]:
        return self.dataset.scored_classes

    def ids(self, split: str) -> Sequence[str]:
        return self.dataset.ids(split)

    def labels(self, image_id: str) -> Float32[np.ndarray, " c"]:
        return self.dataset.labels(image_id)

    def mask(self, image_id: str) -> UInt8[np.ndarray, "h w"] | None:
        return self.dataset.mask(image_id)

    def look_at_image(self, image_id: str) -> tuple[tuple[int, int], bytes]:
        return self.dataset.look_at_image(image_id)

    def look_at_mask(self, image_id: str) -> tuple[UInt8[np.ndarray, "h w"], bytes] | None:
        return self.dataset.look_at_mask(image_id)


def packed(images: Iterable[tuple[str, UInt8[np.ndarray, "h w 3"]]]) -> tuple[list[Place], UInt8[np.ndarray, " n"]]:
    """Images in one array, and where they lie in it."""
    places, parts, start = [], [np.zeros(0, np.uint8)], 0
    for image_id, pixels in images:
        places.append((image_id, start, pixels.shape[:2]))
        parts.append(pixels.reshape(-1))
        start += pixels.size
    return places, np.concatenate(parts)


def unpacked(places: Iterable[Place], array: Pixels) -> Iterable[tuple[str, Pixels]]:
    """The same images as parts of the array, or of a tensor."""
    for image_id, start, (height, width) in places:
        yield image_id, array[start : start + 3 * height * width].reshape(height, width, 3)


Pixels = TypeVar("Pixels", UInt8[np.ndarray, "..."], UInt8[Tensor, "..."])
Place = tuple[str, int, tuple[int, ...]]
"""Id, first byte, and height and width."""
