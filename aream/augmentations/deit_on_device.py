"""DeiT's augmentation as ``deit`` has it, its pixels changed on the device of the network, a batch at a time.

What is drawn is what ``deit`` draws from the same seeds: crops, operations, their strengths, and the noise that erases.

Deviates: from ``deit``, in rounding (one or two of 255 levels), and where images are sheared, rotated or moved: torch's
bicubic kernel has a = -0.75, Pillow's -1.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from timm.data import auto_augment
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomHorizontalFlip
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as pixels

from aream.augmentations import deit
from aream.augmentations._pixel_operations import COLOURS, MOVES, Fill
from aream.config import config
from aream.errors import ConfigError
from aream.images import Statistics

JITTERS = ("Brightness", "Contrast", "Color")
"""In the order in which torchvision numbers them."""


@config
class Config(deit.Config):
    def __post_init__(self) -> None:
        deit.Config.__post_init__(self)  # slots leave no super()
        if self.rand_augment is not None and (unknown := _not_here(self.rand_augment)):
            raise ConfigError(
                f"rand_augment: need a policy without {', '.join(unknown)}, which only deit makes, on the CPU, "
                f"got {self.rand_augment!r}"
            )


def _not_here(policy: str) -> list[str]:
    if policy.startswith("augmix"):
        return ["mixtures of images"]
    composed = deit.transform(deit.Config(rand_augment=policy), 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return sorted({operation.name for operation in deit.single_changes(composed)} - {*COLOURS, *MOVES})


def build(config: Config, side: int, mean: Statistics, std: Statistics) -> ChangedOnDevice:
    return ChangedOnDevice(config, side, mean, std)


@dataclass(frozen=True)
class Draws:
    """What happens to one image."""

    crop: tuple[int, int, int, int]
    """Top, left, height and width."""
    mirrored: bool
    changes: Sequence[tuple[str, tuple[float, ...]]]
    """Operations, by timm's names, with their arguments."""
    erased: Sequence[tuple[int, int, Float32[np.ndarray, "3 h w"]]]
    """Top and left of what lies over it, and that itself, normalised."""


class ChangedOnDevice:
    """A crop resized to the square, so that no pixel is padding."""

    def __init__(self, config: Config, side: int, mean: Statistics, std: Statistics) -> None:
        self.side, self.mean, self.std = side, mean, std
        composed = deit.transform(config, side, mean, std)
        self.steps = composed.transforms
        self.fill: Fill = (0, 0, 0)
        for operation in deit.single_changes(composed):
            self.fill = operation.kwargs["fillcolor"]
            operation.aug_fn = _Noted(operation.name)

    def __call__(self, image: Image.Image) -> tuple[Float[Tensor, "3 side side"], None]:
        (changed,) = self.changed([torch.from_numpy(np.array(image))], [self.draw(image.size)])
        return changed, None

    def draw(self, size: tuple[int, int]) -> Draws:
        """Args: size: width and height of the image."""
        width, height = size
        crop, mirrored, changes, canvas = (0, 0, height, width), False, _Changes(), _Canvas(self.side)
        for step in self.steps:
            if isinstance(step, RandomResizedCropAndInterpolation):
                crop = step.get_params(torch.empty(1).expand(3, height, width), step.scale, step.ratio)
            elif isinstance(step, RandomHorizontalFlip):
                mirrored = bool(torch.rand(1) < step.p)
            elif isinstance(step, ColorJitter):
                changes.made.extend(_jitter(step))
            elif isinstance(step, auto_augment.RandAugment | auto_augment.AutoAugment):
                changes = step(changes)
            elif isinstance(step, RandomErasing):
                step(canvas)
        return Draws(crop, mirrored, changes.made, canvas.erased)

    def changed(
        self, images: Sequence[UInt8[Tensor, "_ _ 3"]], draws: Sequence[Draws]
    ) -> Float[Tensor, "b 3 side side"]:
        """Normalised squares on the device that the images are on."""
        square = torch.stack([self._square(image, draw) for image, draw in zip(images, draws, strict=True)])
        for number in range(max(len(draw.changes) for draw in draws)):
            alike: defaultdict[str, list[int]] = defaultdict(list)
            for index, draw in enumerate(draws):
                if number < len(draw.changes):
                    alike[draw.changes[number][0]].append(index)
            for name, members in alike.items():
                given = [draws[index].changes[number][1] for index in members]
                rows = torch.tensor(members, device=square.device)
                square[rows] = (
                    MOVES[name](square[rows], given, self.fill) if name in MOVES else COLOURS[name](square[rows], given)
                )
        shown = pixels.normalize(square.float() / 255, list(self.mean), list(self.std))
        for index, draw in enumerate(draws):
            for top, left, noise in draw.erased:
                over = torch.from_numpy(noise).to(shown.device)
                shown[index, :, top : top + over.shape[1], left : left + over.shape[2]] = over
        return shown

    def _square(self, image: UInt8[Tensor, "h w 3"], draw: Draws) -> UInt8[Tensor, "3 side side"]:
        top, left, height, width = draw.crop
        part = image.permute(2, 0, 1)[:, _span(top, height, image.shape[0]), _span(left, width, image.shape[1])]
        square = pixels.resize(part, [self.side, self.side], InterpolationMode.BICUBIC, antialias=True)
        return square.flip(-1) if draw.mirrored else square


def _span(first: int, length: int, whole: int) -> slice:
    """At least a pixel: of a few, timm may take none."""
    first = min(first, whole - 1)
    return slice(first, first + max(1, length))


def _jitter(step: ColorJitter) -> Iterator[tuple[str, tuple[float, ...]]]:
    order, *factors, _ = step.get_params(step.brightness, step.contrast, step.saturation, step.hue)
    drawn = {number: factor for number, factor in enumerate(factors) if factor is not None}
    yield from ((JITTERS[int(number)], (drawn[int(number)],)) for number in order if int(number) in drawn)


class _Changes:
    """Stands for an image while timm draws what happens to it."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[float, ...]]] = []


@dataclass(frozen=True)
class _Noted:
    """Stands for an operation: notes that it would be done, and draws what it draws itself."""

    name: str

    def __call__(self, changes: _Changes, *arguments: Any, **options: Any) -> _Changes:
        resample = options["resample"]
        if self.name in MOVES and isinstance(resample, list | tuple):
            random.choice(resample)
        changes.made.append((self.name, tuple(map(float, arguments))))
        return changes


class _Canvas:
    """Stands for the normalised image while timm draws what is erased of it."""

    dtype = torch.float32

    def __init__(self, side: int) -> None:
        self.side = side
        self.erased: list[tuple[int, int, np.ndarray]] = []

    def size(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def __setitem__(self, place: tuple[slice, slice, slice], noise: Tensor) -> None:
        _, rows, columns = place
        self.erased.append((rows.start, columns.start, noise.numpy()))
