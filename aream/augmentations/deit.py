"""MCTformer's training augmentation: DeiT's, as timm builds it."""

from __future__ import annotations

import functools
import re

from jaxtyping import Float
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from aream.batches import Statistics
from aream.config import config
from aream.errors import ConfigError


@config
class Config:
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Share of the image's area that a random crop keeps, before it is resized to the training size."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    color_jitter: float = 0.4
    """Strength of brightness, contrast and saturation jitter; used where ``rand_augment`` is null."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's RandAugment string, or null."""
    erasing: float = 0.25
    """Probability of erasing a random rectangle."""

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"crop_scale: need 0 < low <= high <= 1, got {list(self.crop_scale)}")
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: need a probability in [0, 1], got {getattr(self, name)}")
        if self.color_jitter < 0:
            raise ConfigError(f"color_jitter: need a strength >= 0, got {self.color_jitter}")
        if self.rand_augment is not None and not _known_policy(self.rand_augment):
            raise ConfigError(
                f"rand_augment: need a timm string such as rand-m9-mstd0.5-inc1, or null, got {self.rand_augment!r}"
            )


@functools.lru_cache(maxsize=64)
def _known_policy(text: str) -> bool:
    """Whether timm takes it; the only way to know is to have it parsed."""
    if not text.startswith(("rand", "original", "v0", "augmix")) or re.search(r"\d{4}", text):
        return False
    try:
        create_transform(32, is_training=True, auto_augment=text)
    except (AssertionError, ValueError, KeyError, TypeError, OverflowError, NotImplementedError):
        return False
    return True


def build(config: Config, side: int, mean: Statistics, std: Statistics) -> RandomResizedCrop:
    return RandomResizedCrop(config, side, mean, std)


class RandomResizedCrop:
    """A crop resized to the square, so that no pixel is padding."""

    def __init__(self, config: Config, side: int, mean: Statistics, std: Statistics) -> None:
        self.transform = create_transform(
            side,
            is_training=True,
            scale=config.crop_scale,
            hflip=config.flip,
            color_jitter=config.color_jitter or None,
            auto_augment=config.rand_augment,
            re_prob=config.erasing,
            re_mode="pixel",
            interpolation="bicubic",
            mean=mean,
            std=std,
        )

    def __call__(self, image: Image.Image) -> tuple[Float[Tensor, "3 side side"], None]:
        return self.transform(image), None
