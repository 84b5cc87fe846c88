"""Class scores on disk: compressed bytes, one a pixel and map, in 255 steps."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from aream.data.files import read_bounded
from aream.errors import DataError

STEPS = 255


def write_scores(path: Path, scores: Float32[np.ndarray, "2 k h w"]) -> None:
    """``scores`` are in [0, 1]."""
    path.write_bytes(zlib.compress(np.rint(scores * STEPS).astype(np.uint8).tobytes()))


def read_scores(path: Path, size: tuple[int, int]) -> Float32[np.ndarray, "2 k h w"]:
    """The maps of an image of ``size`` (height, width), two of each kind.

    Raises:
        DataError: missing, damaged, or not of that size.
    """
    try:
        content = np.frombuffer(zlib.decompress(read_bounded(path)), dtype=np.uint8)
    except zlib.error as error:
        raise DataError(f"{path}: holds no scores ({error})") from error
    height, width = size
    if len(content) == 0 or len(content) % (2 * height * width):
        raise DataError(f"{path}: holds {len(content)} scores; need pairs of maps of {height} x {width}")
    return content.reshape(2, -1, height, width).astype(np.float32) / np.float32(STEPS)
