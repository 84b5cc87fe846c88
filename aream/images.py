"""Images as tensors, and how large they may be."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

MAX_SIDE = 8192
"""Pixels a side of what a network is given: beyond, the mistake is in the configuration, not in the machine."""
MAX_SCALE = 8.0
MAX_SCALES = 32
Statistics = tuple[float, float, float]
"""Values of red, green and blue, of pixels in [0, 1]."""


def to_tensor(image: Image.Image, mean: Statistics, std: Statistics) -> Float[Tensor, "3 h w"]:
    """An RGB image as a normalised tensor of its own size; its channels lie beside each other, as in the image.

    Networks' kernels go by how their input lies, and round otherwise.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    values = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)  # a plane at a time is faster
    values.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
    return values.permute(1, 2, 0).contiguous().permute(2, 0, 1)
