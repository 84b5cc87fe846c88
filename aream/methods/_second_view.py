"""The second view of an image: mirrored, turned or shifted, and which patches of it show the same as the first one's.

Source: Sun et al., "All-pairs Consistency Learning for Weakly Supervised Semantic Segmentation", ICCV Workshops 2023
(ACR), whose code mirrors.

Deviates: the authors' code undoes its mirror by 3h flips of slices, on square grids; here one index does.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream.errors import ConfigError

Transform = Literal["mirror", "rotation", "translation"]
Shift = tuple[int, int]
Order = Int64[Tensor, " n"]
"""Numbers of all patches of a grid, each once; they are numbered row by row."""


def second_view(
    images: Float[Tensor, "b 3 height width"], transform: Transform, shift: Shift, patch_size: int
) -> Float[Tensor, "b 3 height width"]:
    """The images mirrored, turned by 90 degrees to the left, or moved; what moves in is 0, the mean colour.

    Args:
        shift: patches down and to the right, of a translation.

    Raises:
        ConfigError: images to be turned that are not square, or moved by all they are.
    """
    height, width = images.shape[2:]
    if transform == "mirror":
        return images.flip(-1)
    if transform == "rotation":
        _check_square(height, width, "pixels")
        return torch.rot90(images, dims=(2, 3))
    down, right = (step * patch_size for step in shift)
    _shared(height // patch_size, width // patch_size, shift)
    return F.pad(images, (right, -right, down, -down))


def aligned_patches(grid: tuple[int, int], transform: Transform, shift: Shift) -> tuple[Order | None, Order, int]:
    """Orders of both views' patches in which equal places show the same, and at how many places they do.

    Args:
        grid: rows and columns of the patches.

    Returns:
        Of the first view, None where it is the order that they have, and of the second; then the number n. Patches
        that only one view shows, of a translation, follow behind the first n.

    Raises:
        ConfigError: as of :func:`second_view`.
    """
    numbers = torch.arange(grid[0] * grid[1]).reshape(grid)
    if transform == "mirror":
        return None, numbers.flip(1).flatten(), numbers.numel()
    if transform == "rotation":
        _check_square(*grid, "patches")
        return None, torch.rot90(numbers, -1).flatten(), numbers.numel()
    down, right = _shared(*grid, shift)
    first, second = _front(numbers, down, right), _front(numbers, -down, -right)
    return first, second, (grid[0] - abs(down)) * (grid[1] - abs(right))


def _front(numbers: Int64[Tensor, "h w"], down: int, right: int) -> Order:
    """Return the numbers with those first that are still seen when all move."""
    seen = torch.zeros_like(numbers, dtype=torch.bool)
    h, w = numbers.shape
    seen[max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)] = True
    return torch.cat([numbers[seen], numbers[~seen]])


def _shared(rows: int, columns: int, shift: Shift) -> Shift:
    if abs(shift[0]) >= rows or abs(shift[1]) >= columns:
        raise ConfigError(
            f"shift: need less than the {rows} x {columns} patches of an image, so that views share some, "
            f"got {list(shift)}"
        )
    return shift


def _check_square(height: int, width: int, unit: str) -> None:
    if height != width:
        raise ConfigError(f"view: rotation needs square images, got {height} x {width} {unit}")
