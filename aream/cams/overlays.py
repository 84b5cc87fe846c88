"""Pictures for people: an image beside its CAM, its pseudo-label and the ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from aream.metrics import IGNORE

GAP = 4
MIN_SIDE = 160
MATRIX_SIDE = 256


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
    panels = [pixels, _heated(pixels, cam), 0.4 * pixels + 0.6 * label_colors(labels, palette)]
    if mask is not None:
        panels.append(0.4 * pixels + 0.6 * label_colors(mask, palette))
    return _enlarged(_row(panels), min(image.size))


def cam_row(image: Image.Image, cams: Sequence[Float[np.ndarray, "h w"]]) -> Image.Image:
    """An image beside CAMs of its size in [0, 1], in jet over the image (AReAM Figs. 5 and 9)."""
    pixels = np.asarray(image, dtype=np.float32)
    return _enlarged(_row([pixels, *(_heated(pixels, cam) for cam in cams)]), min(image.size))


def matrix_row(matrices: Sequence[Float[np.ndarray, "n n"]]) -> Image.Image:
    """Matrices in [0, 1] side by side (AReAM Figs. 3 and 8); large ones averaged down to ``MATRIX_SIDE``."""
    panels = []
    for matrix in matrices:
        coloured = (matplotlib.colormaps["viridis"](np.asarray(matrix))[..., :3] * 255).astype(np.uint8)
        picture = Image.fromarray(coloured)
        if len(matrix) > MATRIX_SIDE:
            picture = picture.resize((MATRIX_SIDE, MATRIX_SIDE), Image.Resampling.BOX)
        panels.append(np.asarray(picture, dtype=np.float32))
    return _enlarged(_row(panels), panels[0].shape[0])


def _heated(pixels: Float[np.ndarray, "h w 3"], cam: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    heat: Float[np.ndarray, "h w 3"] = matplotlib.colormaps["jet"](np.asarray(cam))[..., :3] * 255
    return 0.5 * pixels + 0.5 * heat


def _row(panels: Sequence[Float[np.ndarray, "h _w 3"]]) -> Image.Image:
    gap = np.full((panels[0].shape[0], GAP, 3), 255, dtype=np.float32)
    row = [part for panel in panels for part in (panel, gap)][:-1]
    return Image.fromarray(np.concatenate(row, axis=1).clip(0, 255).astype(np.uint8))


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    factor = max(1, round(MIN_SIDE / side))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
