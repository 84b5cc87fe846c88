"""The drawn scenes as if from a slow disk: every image is waited for, which takes time and no core."""

from __future__ import annotations

import time

from PIL import Image

from aream.config import config
from aream.datasets import shapes


@config
class Config:
    wait_s: float = 1.0
    """Seconds that every read of an image takes."""
    train_images: int = 8
    val_images: int = 4
    image_size: int = 32


def build(config: Config) -> SlowShapes:
    return SlowShapes(config)


class SlowShapes(shapes.Shapes):
    def __init__(self, config: Config) -> None:
        size, train, val = config.image_size, config.train_images, config.val_images
        super().__init__(shapes.Config(image_size=size, train_images=train, val_images=val))
        self.wait_s = config.wait_s

    def image(self, image_id: str) -> Image.Image:
        time.sleep(self.wait_s)
        return super().image(image_id)
