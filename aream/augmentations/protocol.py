"""Contract of the random changes of a training image.

A module here holds ``Config`` and ``build(config, side, mean, std) -> Augment``; a :class:`DeviceAugment` changes
pixels where the network is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor


@runtime_checkable
class Augment(Protocol):
    """Draws from the generators of python, numpy and torch, which its caller seeds; can be pickled."""

    def __call__(self, image: Image.Image) -> tuple[Float[Tensor, "3 side side"], Bool[Tensor, "side side"] | None]:
        """A normalised square, and where it shows the image: False is padding. None: everywhere, for all images."""


@runtime_checkable
class DeviceAugment(Augment, Protocol):
    """The same in two parts: what is drawn, and what becomes of the pixels, which draws nothing."""

    def draw(self, size: tuple[int, int]) -> Any:
        """Of an image's width and height; can be pickled."""

    def changed(self, images: Sequence[UInt8[Tensor, "_ _ 3"]], draws: Sequence[Any]) -> Float[Tensor, "b 3 side side"]:
        """On the device of the images, normalised; no part is padding."""
