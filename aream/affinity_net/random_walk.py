"""A random walk over near positions: scores flow to where the affinity is high (PSA, section 3.3 of the paper).

Published as a dense matrix: T is the affinity matrix to the power ``beta`` element by element, its columns normalised,
squared ``logt`` times, and the scores multiplied by it: N^3 work for N positions. The scores need only 2^logt products
with T, which holds 68 (h-4)(w-8) + hw numbers other than zero: each product is a sum of shifted views of the maps. That
is the same up to rounding, and the same on every run on a GPU too, which sparse formats do not promise.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from aream.affinity_net.pairs import partners_of, sources_of
from aream.errors import ConfigError

MAX_LOGT = 12


def check_walk(beta: float, logt: int) -> None:
    """
    Raises:
        ConfigError: a sharpness or length that no walk has.
    """
    if not 0 < beta <= 1000:
        raise ConfigError(f"beta: need a number in (0, 1000], got {beta}")
    if not 0 <= logt <= MAX_LOGT:
        raise ConfigError(f"logt: need a whole number in 0..{MAX_LOGT}, got {logt}")


@torch.no_grad()
def random_walk(
    affinities: Float[Tensor, "b 34 p q"], maps: Float[Tensor, "b c h w"], *, beta: float, logt: int
) -> Float[Tensor, "b c h w"]:
    """The maps after 2^logt steps: every value a mean of the values before, weighted by where a walk comes from.

    Args:
        affinities: in [0, 1], of each source of the grid to its 34 partners (:mod:`aream.affinity_net.pairs`); a
            position and itself have 1, all other pairs 0.
        beta: power of the affinities; larger stops the walk at weaker edges.
        logt: the number of steps as a power of two.
    """
    weights = affinities.pow(beta)[:, :, None]
    arriving = 1 / _step(weights, torch.ones_like(maps[:, :1]))  # a column of the symmetric matrix sums up like a row
    for _ in range(2**logt):
        maps = _step(weights, maps).mul_(arriving)
    return maps


def _step(weights: Float[Tensor, "b 34 1 p q"], maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The maps times the symmetric affinity matrix."""
    moved = maps.clone()
    at_sources, from_sources = sources_of(moved), sources_of(maps)
    pairs = zip(weights.unbind(dim=1), partners_of(maps), partners_of(moved), strict=True)
    for weight, from_partners, at_partners in pairs:
        at_sources.addcmul_(weight, from_partners)
        at_partners.addcmul_(weight, from_sources)
    return moved
