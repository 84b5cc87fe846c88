"""Pseudo-label PNGs: indexed, with PASCAL VOC's palette, 255 = ignore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aream.data.images import read_indices


def voc_palette() -> list[int]:
    """256 RGB triples: bit k of the class id sets bit 7 - k//3 of channel k % 3 (VOC development kit)."""
    palette = []
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
        palette.extend(color)
    return palette


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
