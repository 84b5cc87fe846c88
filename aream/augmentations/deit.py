"""MCTformer's training augmentation: DeiT's, as timm builds it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from jaxtyping import Float
from PIL import Image
from timm.data import auto_augment, create_transform
from torch import Tensor

from aream.config import config
from aream.errors import ConfigError
from aream.images import Statistics


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
    """Return True if timm takes the policy; the only way to know is to have it parsed."""
    if not text.startswith(("rand", "original", "v0", "augmix")) or re.search(r"\d{4}", text):
        return False
    try:
        create_transform(32, is_training=True, auto_augment=text)
    except (AssertionError, ValueError, KeyError, TypeError, OverflowError, NotImplementedError):
        return False
    return True


def build(config: Config, side: int, mean: Statistics, std: Statistics) -> RandomResizedCrop:
    return RandomResizedCrop(config, side, mean, std)


def transform(config: Config, side: int, mean: Statistics, std: Statistics) -> Any:
    """timm's transform, step by step in ``transforms``."""
    composed = create_transform(
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
    for operation in single_changes(composed):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = posterize
    return composed


class RandomResizedCrop:
    """A crop resized to the square, so that no pixel is padding."""

    def __init__(self, config: Config, side: int, mean: Statistics, std: Statistics) -> None:
        self.transform = transform(config, side, mean, std)

    def __call__(self, image: Image.Image) -> tuple[Float[Tensor, "3 side side"], None]:
        return self.transform(image), None


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep the highest ``bits`` of an RGB image's channels; none is black, 8 or more change nothing.

    Strong magnitudes ask for 0 bits or fewer. Pillow made black of that until its version 13 refused it, and timm hands
    it on.
    """
    return auto_augment.posterize(image, bits) if bits > 0 else Image.new("RGB", image.size)


def single_changes(transform: Any) -> Iterator[Any]:
    """timm's single changes of the image in a transform, whichever of its policies draws them."""
    for step in transform.transforms:
        if isinstance(step, auto_augment.AutoAugment):
            for policy in step.policy:
                yield from policy
        elif isinstance(step, auto_augment.RandAugment | auto_augment.AugMixAugment):
            yield from step.ops
