"""Contract of the random changes of a training image.

A module here holds ``Config`` and ``build(config, side, mean, std) -> Augment``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor


@runtime_checkable
class Augment(Protocol):
    """Draws from the generators of python, numpy and torch, which its caller seeds; can be pickled."""

    def __call__(self, image: Image.Image) -> tuple[Float[Tensor, "3 side side"], Bool[Tensor, "side side"] | None]:
        """A normalised square, and where it shows the image: False is padding. None: everywhere, for all images."""
