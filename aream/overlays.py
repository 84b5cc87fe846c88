"""Pictures for people: an image beside its CAM, its pseudo-label and the ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from aream.data._protocol import IGNORE

GAP = 4
MIN_SIDE = 160


def label_colors(labels: UInt8[np.ndarray, "h w"], palette: Sequence[int]) -> UInt8[np.ndarray, "h w 3"]:
    """Ids as colours of a 256-entry RGB palette; ignored pixels are white."""
    colors = np.array(palette, dtype=np.uint8).reshape(256, 3).copy()
    colors[IGNORE] = 255
    return colors[labels]


def overlay(
    image: Image.Image,
    cam: Float[np.ndarray, "h w"],
    labels: UInt8[np.ndarray, "h w"],
    mask: UInt8[np.ndarray, "h w"] | None,
    palette: Sequence[int],
) -> Image.Image:
    """Image, CAM in [0, 1] (jet, half transparent), pseudo-label and ground truth side by side."""
    pixels = np.asarray(image, dtype=np.float32)
    heat = matplotlib.colormaps["jet"](np.asarray(cam))[..., :3] * 255
    panels = [pixels, 0.5 * pixels + 0.5 * heat, 0.4 * pixels + 0.6 * label_colors(labels, palette)]
    if mask is not None:
        panels.append(0.4 * pixels + 0.6 * label_colors(mask, palette))
    gap = np.full((pixels.shape[0], GAP, 3), 255, dtype=np.float32)
    row = [part for panel in panels for part in (panel, gap)][:-1]
    picture = Image.fromarray(np.concatenate(row, axis=1).clip(0, 255).astype(np.uint8))
    factor = max(1, round(MIN_SIDE / min(image.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
