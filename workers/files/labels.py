"""Pseudo-label PNGs: indexed, with PASCAL VOC's palette, 255 = ignore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aream.data.images import read_indices
from aream.data.palette import voc_palette

PALETTE = voc_palette()


def write_labels(path: Path, labels: UInt8[np.ndarray, "h w"]) -> None:
    image = Image.fromarray(labels)
    image.putpalette(PALETTE)
    image.save(path, optimize=False)


def read_labels(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Class ids of an indexed or grey PNG, as stored.

    Raises:
        DataError: missing, too large, not decodable, or a colour image.
    """
    return read_indices(path)
