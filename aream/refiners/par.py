"""Pixel-adaptive refinement: scores spread to neighbours of like colour (AReAM Eqs. 10-12).

Source: Ru et al., "Learning Affinity from Attention" (AFA), CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.config import config
from aream.errors import ConfigError

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@config
class Config:
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    """Distances of the eight neighbours, pixels."""
    iterations: int = 10
    """How often scores are spread."""
    sharpness: float = 0.3
    """The c of the kernel's width c * sigma; smaller follows edges more closely."""
    position_weight: float = 0.01
    """Weight of the position kernel beside the colour kernel (weight 1)."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.dilations) <= 32 or not 1 <= min(self.dilations) <= max(self.dilations) <= 512:
            raise ConfigError(f"dilations: need 1..32 distances in 1..512, got {list(self.dilations)}")
        if not 1 <= self.iterations <= 1000:
            raise ConfigError(f"iterations: need >= 1 and at most 1000, got {self.iterations}")
        if self.sharpness <= 0 or self.position_weight < 0:
            raise ConfigError(
                f"sharpness, position_weight: need > 0 and >= 0, got {self.sharpness}, {self.position_weight}"
            )


def build(config: Config) -> PAR:
    return PAR(config)


class PAR:
    """A neighbour is a shifted view of the map padded once, not one of 48 convolutions with a one-hot kernel."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.offsets = [(d * y, d * x) for d in config.dilations for y, x in DIRECTIONS]
        self.reach = max(config.dilations)

    @torch.no_grad()
    def kernel(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Weights of the k neighbours of every pixel; they sum to 1 + ``position_weight``.

        The spread of a colour is its unbiased standard deviation over the neighbours (the centre is none).
        """
        h, w = images.shape[2:]
        padded = self._pad(images)
        count = len(self.offsets)
        total = torch.zeros_like(images)
        squares = torch.zeros_like(images)
        # Deviations from the centre: sums of squares of raw values would cancel where the image is flat.
        for view in self._views(padded, h, w):
            difference = view - images
            total += difference
            squares += difference * difference
        variance = (squares - total * total / count).clamp_(min=0) / (count - 1)
        width = (variance.sqrt_() + 1e-8) * self.config.sharpness
        logits = images.new_empty(len(images), count, h, w)
        for index, view in enumerate(self._views(padded, h, w)):
            logits[:, index] = -(((view - images) / width) ** 2).mean(dim=1)
        colors = logits.softmax(dim=1)
        return colors.add_(self.config.position_weight * self._position_kernel(images)[None, :, None, None])

    @torch.no_grad()
    def apply(self, kernel: Float[Tensor, "b2 k h w"], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Spread the scores; their scale grows by (1 + position_weight) an iteration, harmless for an argmax."""
        h, w = scores.shape[2:]
        for _ in range(self.config.iterations):
            padded = self._pad(scores)
            scores = torch.zeros_like(scores)
            for index, view in enumerate(self._views(padded, h, w)):
                scores.addcmul_(kernel[:, index, None], view)
        return scores

    def refine(self, kernel: Float[Tensor, "b2 k h w"], scores: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        growth = (1 + self.config.position_weight) ** self.config.iterations
        return self.apply(kernel, scores) / growth

    def _pad(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c hp wp"]:
        return F.pad(maps, (self.reach,) * 4, mode="replicate")

    def _views(self, padded: Float[Tensor, "b c hp wp"], h: int, w: int) -> Iterator[Tensor]:
        for y, x in self.offsets:
            yield padded[:, :, self.reach + y : self.reach + y + h, self.reach + x : self.reach + x + w]

    def _position_kernel(self, like: Tensor) -> Float[Tensor, " k"]:
        distances = like.new_tensor([math.hypot(y, x) for y, x in self.offsets])
        width = (distances.std() + 1e-8) * self.config.sharpness
        return (-((distances / width) ** 2)).softmax(dim=0)
