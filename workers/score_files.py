"""Class scores on disk: a grey PNG an image, the maps one under the other, in 255 steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from aream.data._files import read_indices
from aream.errors import DataError

STEPS = 255


def write_scores(path: Path, scores: Float32[np.ndarray, "n h w"]) -> None:
    """``scores`` are in [0, 1]."""
    grey = np.rint(scores * STEPS).astype(np.uint8)
    Image.fromarray(grey.reshape(-1, grey.shape[-1])).save(path)


def read_scores(path: Path, size: tuple[int, int]) -> Float32[np.ndarray, "n h w"]:
    """The maps of an image of ``size`` (height, width).

    Raises:
        DataError: missing, not decodable, or of another size.
    """
    grey = read_indices(path)
    height, width = size
    if grey.shape[1] != width or grey.shape[0] % height:
        raise DataError(f"{path}: is {grey.shape[1]} x {grey.shape[0]} pixels; need maps of {width} x {height}")
    return grey.reshape(-1, height, width).astype(np.float32) / np.float32(STEPS)
