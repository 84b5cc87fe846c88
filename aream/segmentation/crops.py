"""Crops that a segmenter learns from: images at random scales, shifted in colour, mirrored, cropped, with their
labels."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aream.engine.batches import seeded
from aream.images import Statistics, to_tensor
from aream.metrics import IGNORE
from aream.segmentation.config import SegmentationTraining

Sample = tuple[Float[Tensor, "3 s s"], Int64[Tensor, "s s"]]


class TrainingCrops:
    """Crops drawn from (seed, epoch, image) alone, a scale that a batch shares from (seed, epoch, step)."""

    def __init__(self, config: SegmentationTraining, seed: int, mean: Statistics, std: Statistics) -> None:
        self.config, self.seed, self.mean, self.std = config, seed, mean, std

    def batch_scale(self, epoch: int, step: int) -> float | None:
        """The scale of all images of a step; None where each has its own."""
        if self.config.scale_per == "image":
            return None
        with seeded("segmentation scale", self.seed, epoch, step):
            return float(np.random.uniform(*self.config.scale))

    def crop(
        self, image: Image.Image, labels: UInt8[np.ndarray, "h w"], epoch: int, image_id: str, scale: float | None
    ) -> Sample:
        """A normalised square of ``config.crop`` pixels with its labels; what the image does not fill is ignored.

        Args:
            scale: that of the batch; None: one is drawn.
        """
        config, side = self.config, self.config.crop
        with seeded("segmentation", self.seed, epoch, image_id):
            own = np.random.uniform(*config.scale)
            mirrored = config.flip and np.random.random() < 0.5
            size = _scaled(image.size, own if scale is None else scale)
            left = np.random.randint(max(size[0] - side, 0) + 1)
            top = np.random.randint(max(size[1] - side, 0) + 1)
            if config.hsv_jitter:
                shift = np.random.randint(-config.hsv_jitter, config.hsv_jitter, size=3)
                image = shifted_hsv(image, (int(shift[0]), int(shift[1]), int(shift[2])))
        pixels = to_tensor(image.resize(size, Image.Resampling.BICUBIC), self.mean, self.std)
        resized = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
        target = torch.from_numpy(np.array(resized, dtype=np.int64))
        pixels = pixels[:, top : top + side, left : left + side]
        target = target[top : top + side, left : left + side]
        border = (0, side - target.shape[1], 0, side - target.shape[0])
        pixels, target = F.pad(pixels, border), F.pad(target, border, value=IGNORE)
        return (pixels.flip(-1), target.flip(-1)) if mirrored else (pixels, target)


def shifted_hsv(image: Image.Image, shift: tuple[int, int, int]) -> Image.Image:
    """An RGB image whose hue is turned by so many steps of 2 degrees, and whose saturation and value are raised by so
    many of 255, within their range. The steps are those of OpenCV's 8-bit HSV, which TransCAM draws from."""
    values = np.array(image.convert("HSV"), dtype=np.int64)
    values[..., 0] = (values[..., 0] + round(shift[0] * 256 / 180)) % 256
    values[..., 1:] = np.clip(values[..., 1:] + np.array(shift[1:]), 0, 255)
    return Image.fromarray(values.astype(np.uint8), mode="HSV").convert("RGB")


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
