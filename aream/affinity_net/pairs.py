"""Pairs of near positions on a feature grid: those that AffinityNet compares and a random walk moves between.

Each position is paired with the 34 that are less than 5 away in the half plane that follows it in reading order, so a
pair is met once. A position with one of the 34 outside the grid is no source: the last 4 rows and the first and last 4
columns, so that (h - 4)(w - 8) sources are left, none on a grid of 4 rows or 8 columns.

Source: Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision" (PSA), CVPR 2018, and its
authors' code, which settles the radius and what becomes of the border.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

RADIUS = 5
"""Pairs are less than this apart, in positions of the grid."""
REACH = RADIUS - 1
OFFSETS = (
    *((0, x) for x in range(1, RADIUS)),
    *((y, x) for y in range(1, RADIUS) for x in range(-REACH, RADIUS) if y * y + x * x < RADIUS * RADIUS),
)
"""(rows, columns) from a source to its 34 partners."""
LEAST_SIDE = 2 * REACH + 1
"""Positions of a square grid that has a source."""


def sources_of(maps: Tensor) -> Tensor:
    """The view of maps (... h w) at the sources, (... p q) with p = h - 4 and q = w - 8, at least 0."""
    return _window(maps, 0, 0)


def partners_of(maps: Tensor) -> Iterator[Tensor]:
    """Yield, for each offset, the view of maps (... h w) at the partners of the sources, (... p q)."""
    for y, x in OFFSETS:
        yield _window(maps, y, x)


def _window(maps: Tensor, y: int, x: int) -> Tensor:
    height, width = maps.shape[-2:]
    rows, columns = max(height - REACH, 0), max(width - 2 * REACH, 0)
    left = REACH + x if columns else 0
    return maps[..., y : y + rows, left : left + columns]
