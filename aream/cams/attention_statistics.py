"""Statistics of the attention of a layer, how alike, concentrated and rich it is: over-smoothing in numbers.

Source: Cheng et al., arXiv:2305.03112, Eq. 6 and Figs. 3, 4 and 8. The authors published no code for these. Rank and
concentration are measures of ours beside the paper's.

Axes: b images, n patches, k keys (prefix tokens first, then patches), all of one layer's attention averaged over heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

PICTURE_FLOOR = 1e-4
"""Share of a map's largest affinity below which a picture shows none: four decades of its logarithmic scale."""


@torch.no_grad()
def hellinger_distance(attention: Float[Tensor, "b n k"]) -> Float64[Tensor, " b"]:
    """Mean over pairs i != j of the Hellinger distance between rows, 2^-1/2 |sqrt(a_i) - sqrt(a_j)| (AReAM Eq. 6).

    In [0, 1] where rows sum to 1: 0, all patches attend alike; 1, no two share a key. 0 for a single patch.
    d^2 = (s_i + s_j - 2 G_ij) / 2 with G = sqrt(A) sqrt(A)^T and s its diagonal: one product a layer, in float64,
    since rows that are nearly alike differ in digits that float32 has not got.

    The paper does not say which rows and keys it takes. Meant for rows of patches and all keys, prefix tokens
    included: those are distributions; the patch block alone is not.
    """
    n = attention.shape[1]
    if n < 2:
        return attention.new_zeros(len(attention), dtype=torch.float64)
    roots = attention.double().sqrt()
    products = roots @ roots.transpose(1, 2)
    own = torch.diagonal(products, dim1=1, dim2=2)
    squared = (own[:, :, None] + own[:, None, :] - 2 * products).clamp_(min=0) / 2
    torch.diagonal(squared, dim1=1, dim2=2).zero_()
    return squared.sqrt_().sum(dim=(1, 2)) / (n * (n - 1))


@torch.no_grad()
def effective_rank(affinity: Float[Tensor, "b n n"]) -> Float64[Tensor, " b"]:
    """exp of the entropy of the singular values divided by their sum, in [1, n] (Roy and Vetterli, 2007).

    1 where all patches attend alike, n where each attends to itself; 0 for a map of zeros. Singular values are roots of
    the eigenvalues of A^T A, several times faster than by decomposing A; what float64 leaves of those below 1e-7 of the
    largest is rounding, and counts as 0.
    """
    wide = affinity.double()
    squares = torch.linalg.eigvalsh(wide.transpose(1, 2) @ wide)
    noise = squares.shape[1] * torch.finfo(torch.float64).eps * squares.amax(dim=1, keepdim=True)
    values = torch.where(squares > noise, squares, 0.0).clamp(min=0).sqrt()
    total = values.sum(dim=1, keepdim=True)
    shares = values / total.clamp(min=torch.finfo(torch.float64).tiny)
    rank = torch.exp(-torch.special.xlogy(shares, shares).sum(dim=1))
    return torch.where(total[:, 0] > 0, rank, torch.zeros_like(rank))


@torch.no_grad()
def column_mass(affinity: Float[Tensor, "b n m"]) -> Float64[Tensor, "b m"]:
    """Attention that each column receives, averaged over rows: the paper's "particular columns" are its peaks."""
    return affinity.double().mean(dim=1)


@torch.no_grad()
def gini(mass: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
    """Gini coefficient sum_ij |x_i - x_j| / (2 n sum_i x_i): 0, all columns receive alike; (n - 1) / n, one has it all.

    0 where there is no mass.
    """
    n = mass.shape[1]
    ranks = torch.arange(1, n + 1, dtype=mass.dtype, device=mass.device)
    total = mass.sum(dim=1)
    weighted = 2 * (mass.sort(dim=1).values * ranks).sum(dim=1)
    found = weighted / (n * total.clamp(min=torch.finfo(mass.dtype).tiny)) - (n + 1) / n
    return torch.where(total > 0, found, torch.zeros_like(found)).clamp(min=0)


@dataclass(frozen=True)
class TopColumns:
    """Place of the columns that a layer attends to most."""

    foreground: Float64[Tensor, " b"]
    """Share of their attention that is on objects, in [0, 1]; NaN where nothing is labelled."""
    everywhere: Float64[Tensor, " b"]
    """Share of the whole image that is objects: what columns drawn at random would give."""


@torch.no_grad()
def top_columns(
    mass: Float64[Tensor, "b n"],
    foreground: Float64[Tensor, "b n"],
    labelled: Bool[Tensor, "b n"],
    most: int,
) -> TopColumns:
    """The ``most`` columns of greatest mass against ground truth, unlabelled patches left out.

    Args:
        foreground: share of each patch's labelled pixels that belong to an object.
        labelled: whether a patch has any.
    """
    known = labelled.double()
    kept = (mass * known).masked_fill(~labelled, -1.0)
    order = kept.sort(dim=1, descending=True, stable=True).indices[:, :most]
    chosen = torch.zeros_like(known).scatter_(1, order, 1.0) * known
    weight = mass * chosen
    return TopColumns(
        (weight * foreground).sum(dim=1) / weight.sum(dim=1), (known * foreground).sum(dim=1) / known.sum(dim=1)
    )


@torch.no_grad()
def logarithmic(affinity: Float[Tensor, "n n"]) -> Float64[Tensor, "n n"]:
    """An affinity for the eye: logarithm, then min-max to [0, 1] (AReAM Figs. 3 and 8); zeros where it is constant.

    The paper gives no floor; affinities below 1/10,000 of the largest are drawn as that.
    """
    values = affinity.double()
    values = values.clamp(min=max(float(values.max()) * PICTURE_FLOOR, torch.finfo(torch.float64).tiny)).log()
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)
