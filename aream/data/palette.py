"""PASCAL VOC's colours of class ids."""

from __future__ import annotations


def voc_palette() -> list[int]:
    """256 RGB triples: bit k of the class id sets bit 7 - k//3 of channel k % 3 (VOC development kit)."""
    palette = []
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
        palette.extend(color)
    return palette
