"""What the page shows of an image, as encoded pictures."""

from __future__ import annotations

import functools
import io

import matplotlib
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from aream.cams.overlays import label_colors
from aream.metrics import BACKGROUND, IGNORE
from workers.files.labels import PALETTE

THUMBNAIL_SIDE, SHOWN_SIDE = 160, 1024
"""Longer sides in pixels."""
TINT = 0.6


def thumbnail(image: Image.Image, labels: UInt8[np.ndarray, "h w"]) -> bytes:
    """A small WebP of an image under its labels; the background stays as it is."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    ids = np.asarray(Image.fromarray(labels).resize(small.size, Image.Resampling.NEAREST))
    pixels = np.asarray(small, dtype=np.float32)
    tinted = np.where((ids == BACKGROUND)[..., None], pixels, (1 - TINT) * pixels + TINT * label_colors(ids, PALETTE))
    return _encoded(Image.fromarray(tinted.astype(np.uint8)), "WEBP", quality=80)


def photo(image: Image.Image) -> bytes:
    """A JPEG of an image, large ones reduced."""
    shown = image.copy()
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return _encoded(shown, "JPEG", quality=92)


def label_picture(labels: UInt8[np.ndarray, "h w"]) -> bytes:
    """A PNG of labels in the palette, the background transparent and ignored pixels white."""
    picture = Image.fromarray(labels)
    palette = list(PALETTE)
    palette[3 * IGNORE : 3 * IGNORE + 3] = [255, 255, 255]
    picture.putpalette(palette)
    return _encoded(picture, "PNG", transparency=BACKGROUND)


def heat_picture(cam: Float32[np.ndarray, "h w"]) -> bytes:
    """A PNG of a CAM in [0, 1]: the weaker, the more transparent."""
    colors = (_colormap()[(cam * 255).astype(np.uint8)] * 255).astype(np.uint8)
    colors[..., 3] = (cam * 230).astype(np.uint8)
    return _encoded(Image.fromarray(colors), "PNG", compress_level=1)


@functools.cache
def _colormap() -> Float32[np.ndarray, "256 4"]:
    return matplotlib.colormaps["inferno"](np.arange(256)).astype(np.float32)


def _encoded(picture: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()
