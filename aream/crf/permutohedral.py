"""Gaussian filtering of scattered points in any dimension, on the permutohedral lattice.

Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010;
scaling, blur weights and the lattice that is not grown by the blur as in Krähenbühl and Koltun's dense CRF (NIPS 2011).
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from aream.errors import ConfigError


class PermutohedralLattice:
    """The corners of the simplices that points lie in, the points' weights on them, and every corner's neighbours.

    The lattice A*_d is Z^(d+1) projected along (1, ..., 1), so a corner is an integer vector up to a multiple of
    ones, and here the one whose last coordinate is 0: in these d coordinates simplices are Kuhn's (a corner and the
    steps along the axes in the order of falling fractions); the d + 1 blur directions are the axes and -(1, ..., 1).
    """

    def __init__(self, features: Float[Tensor, "n d"]) -> None:
        """``features`` in units of the Gaussian's standard deviation.

        Raises:
            ConfigError: more corners are possible than 63 bits can number: the standard deviations are too small.
        """
        self.points, self.dimensions = features.shape
        keys, weights, strides = _corners(features)
        ordered, order = keys.flatten().sort(stable=True)
        corners, counts = torch.unique_consecutive(ordered, return_counts=True)
        self.size = len(corners)
        # 32-bit indices halve what the sums below read; no image has 2^31 / (d + 1) pixels.
        row = torch.repeat_interleave(counts).int()
        self.corners: Int[Tensor, "n d1"] = torch.empty_like(row).scatter_(0, order, row).reshape(keys.shape)
        """Corners that a point lies between."""
        self.weights: Float[Tensor, "n d1"] = weights
        """Barycentric weights of these corners."""
        self.members: Int[Tensor, " nd1"] = order.int() // (self.dimensions + 1)
        """The points around each corner, corner after corner."""
        self.member_weights: Float[Tensor, " nd1"] = weights.flatten().index_select(0, order) * _scale(self.dimensions)
        self.starts: Int[Tensor, " m"] = (counts.cumsum(0) - counts).int()
        """Index in ``members`` where each corner's points begin."""
        self._steps = [_step(corners, stride, weights) for stride in strides]

    def filter(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """About sum_j exp(-|f_i - f_j|^2 / 2) v_j, exact in its integral over f_i - f_j where the points lie dense."""
        return self.slice(self.blur(self.splat(values)))

    def splat(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "m c"]:
        return weighted_rows(values, self.members, self.member_weights, self.starts)

    def blur(self, values: Float[Tensor, "m c"]) -> Float[Tensor, "m c"]:
        """Blur by [1/2, 1, 1/2] along every direction; corners that no point touches count as 0."""
        for neighbours, weights in self._steps:
            values = weighted_rows(values, neighbours, weights)
        return values

    def slice(self, values: Float[Tensor, "m c"]) -> Float[Tensor, "n c"]:
        return weighted_rows(values, self.corners, self.weights)


def weighted_rows(
    values: Float[Tensor, "rows c"],
    indices: Int[Tensor, "*index"],
    weights: Float[Tensor, "*index"],
    starts: Int[Tensor, " bags"] | None = None,
) -> Float[Tensor, "bags c"]:
    """Weighted sums of rows: of those in each row of ``indices``, or in each stretch that ``starts`` begins."""
    return F.embedding_bag(indices, values, starts, mode="sum", per_sample_weights=weights)


def _corners(features: Float[Tensor, "n d"]) -> tuple[Int[Tensor, "n d1"], Float[Tensor, "n d1"], list[int]]:
    """Number and weight of the corners around every point; what each blur direction adds to a number."""
    position = _embedding(features.shape[1]).to(features) @ features.T
    cell = position.floor()
    fractions = list((position - cell).unbind())
    first = cell.amin(dim=1) - 1
    extents = [int(extent) for extent in (cell.amax(dim=1) - first + 3).tolist()]
    strides = [math.prod(extents[:axis]) for axis in range(len(extents))]
    if math.prod(extents) >= 2**63:
        raise ConfigError(
            f"standard deviations: the features span {' x '.join(map(str, extents))} lattice cells, more than 2^63; "
            "make them larger"
        )
    # Sorting the numbers is most of the work, and half as much of it with half the bits.
    cells = (cell - first[:, None]).to(torch.int32 if math.prod(extents) < 2**31 else torch.int64)
    corner = torch.zeros_like(cells[0])
    for axis, stride in enumerate(strides):
        corner += cells[axis] * stride
    steps = [torch.full_like(corner, stride) for stride in strides]
    _sort_descending(fractions, steps)
    bounds = [torch.ones_like(fractions[0]), *fractions, torch.zeros_like(fractions[0])]
    weights = torch.stack([upper - lower for upper, lower in itertools.pairwise(bounds)], dim=1)
    keys = torch.stack([corner, *steps], dim=1).cumsum(dim=1, dtype=corner.dtype)
    return keys, weights, [*strides, -sum(strides)]


def _embedding(d: int) -> Float[Tensor, "d d"]:
    """Return the map from feature space to the d integer coordinates, scaled so that splat, blur and slice have unit
    variance."""
    lifted = torch.zeros(d + 1, d, dtype=torch.float64)
    for axis in range(d):
        lifted[: axis + 1, axis] = 1
        lifted[axis + 1, axis] = -(axis + 1)
        lifted[:, axis] *= math.sqrt(2 / 3) / math.sqrt((axis + 1) * (axis + 2))
    return lifted[:-1] - lifted[-1]


def _scale(d: int) -> float:
    """The Gaussian's integral over that of splat, blur and slice: 2^(d + 1) times the volume of a corner."""
    return float((2 * math.pi) ** (d / 2) * _embedding(d).det() / 2 ** (d + 1))


def _sort_descending(values: list[Tensor], carried: list[Tensor]) -> None:
    """Sort across the lists, at every position, in place; a network of whole-tensor exchanges."""
    for end in range(len(values) - 1, 0, -1):
        for at in range(end):
            swap = values[at] < values[at + 1]
            upper, lower = carried[at], carried[at + 1]
            carried[at], carried[at + 1] = torch.where(swap, lower, upper), torch.where(swap, upper, lower)
            values[at], values[at + 1] = (
                torch.maximum(values[at], values[at + 1]),
                torch.minimum(values[at], values[at + 1]),
            )


def _step(corners: Int[Tensor, " m"], stride: int, like: Tensor) -> tuple[Int[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """A corner and its neighbours on both sides, with their blur weights: 0 where there is no such corner."""
    own = torch.arange(len(corners), device=corners.device)
    neighbours, weights = [own], [torch.ones(len(corners), dtype=like.dtype, device=like.device)]
    for side in (stride, -stride):
        wanted = corners + side
        found = torch.searchsorted(corners, wanted).clamp_(max=len(corners) - 1)
        hit = corners[found] == wanted
        neighbours.append(torch.where(hit, found, own))
        weights.append(hit.to(like.dtype) / 2)
    return torch.stack(neighbours, dim=1).int(), torch.stack(weights, dim=1)
