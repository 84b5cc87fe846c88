"""The Conformer host's training augmentation: a random scale, mirror, colours and crop; what is missing is black.

Source: the authors' code of AReAM (Cheng et al., arXiv:2305.03112), whose transforms are AFA's.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import ColorJitter

from aream.config import config
from aream.errors import ConfigError
from aream.images import MAX_SCALE, MAX_SIDE, Statistics, to_tensor


@config
class Config:
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random scale before the crop."""
    long_side: tuple[int, int] | None = None
    """Range of the longer side instead of a scale, pixels (TransCAM: 320 to 640); null: ``scale``."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    color_jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    """Strengths of brightness, contrast, saturation and hue; hue at most 0.5."""
    color_jitter_probability: float = 0.8
    """Probability that colours change at all."""

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= MAX_SCALE:
            raise ConfigError(f"scale: need 0 < low <= high <= {MAX_SCALE:g}, got {list(self.scale)}")
        if self.long_side is not None and not 1 <= self.long_side[0] <= self.long_side[1] <= MAX_SIDE:
            raise ConfigError(f"long_side: need 1 <= low <= high <= {MAX_SIDE} or null, got {list(self.long_side)}")
        for name in ("flip", "color_jitter_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: need a probability in [0, 1], got {getattr(self, name)}")
        if min(self.color_jitter) < 0 or self.color_jitter[3] > 0.5:
            raise ConfigError(
                f"color_jitter: need four strengths >= 0, the last at most 0.5, got {list(self.color_jitter)}"
            )


def build(config: Config, side: int, mean: Statistics, std: Statistics) -> ScaleAndCrop:
    return ScaleAndCrop(config, side, mean, std)


class ScaleAndCrop:
    def __init__(self, config: Config, side: int, mean: Statistics, std: Statistics) -> None:
        self.config, self.side, self.mean, self.std = config, side, mean, std
        self.jitter = ColorJitter(*config.color_jitter)

    def __call__(self, image: Image.Image) -> tuple[Float[Tensor, "3 side side"], Bool[Tensor, "side side"]]:
        """A crop at a random place; a side shorter than the crop lies at a random place in it, on black.

        Padding comes before normalising: it is black to the network, not the mean colour.
        """
        image = self._scaled(image)
        if random.random() < self.config.flip:
            image = ImageOps.mirror(image)
        if random.random() < self.config.color_jitter_probability:
            image = self.jitter(image)
        left, top = (_offset(length, self.side) for length in image.size)
        canvas = Image.new("RGB", (self.side, self.side))
        canvas.paste(image, (left, top))
        valid = torch.zeros(self.side, self.side, dtype=torch.bool)
        valid[max(top, 0) : top + image.height, max(left, 0) : left + image.width] = True
        return to_tensor(canvas, self.mean, self.std), valid

    def _scaled(self, image: Image.Image) -> Image.Image:
        if self.config.long_side is None:
            factor = random.uniform(*self.config.scale)
        else:
            factor = random.randint(*self.config.long_side) / max(image.size)
        width, height = (max(1, int(length * factor)) for length in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC)


def _offset(length: int, side: int) -> int:
    """Draw where the image starts in the crop, all places equally likely; negative where it is cut."""
    offset = int(np.random.randint(abs(side - length) + 1))
    return offset if length < side else -offset
