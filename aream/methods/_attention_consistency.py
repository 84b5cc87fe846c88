"""Difference of two views' attention, layer by layer, where both show the same.

Source: Sun et al., ACR, ICCV Workshops 2023: region activation and region affinity consistency.
Axes: b images, t prefix tokens (they come first), n patches, s of them that both views show, d channels of a head.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aream.cams.affinity import LayerQK
from aream.cams.precision import widened, without_autocast
from aream.methods._second_view import Order

Parts = tuple[Tensor, ...]
"""Queries and keys of a layer, and its bias where it has one."""


def consistency(
    first: Sequence[LayerQK],
    second: Sequence[LayerQK],
    orders: tuple[Order | None, Order | None],
    shared: int,
    prefix_tokens: int,
    class_rows: slice,
) -> Float[Tensor, " two"]:
    """Region activation and region affinity loss: the mean of :func:`distances` over layers, each in [0, 1].

    A layer's maps are made again in the backward pass, so that those of one layer at a time are in memory.

    Args:
        orders: of each view's patches, such that the first ``shared`` ones show the same; None: as they are.
        class_rows: prefix tokens that stand for classes.
    """

    def of_layer(*parts: Tensor) -> Float[Tensor, " two"]:
        one, other = (mean_map(half, prefix_tokens + shared) for half in (parts[::2], parts[1::2]))
        return distances(one, other, prefix_tokens, class_rows)

    prefix, device = torch.arange(prefix_tokens), first[0].keys.device
    indices = [None if order is None else torch.cat([prefix, order + prefix_tokens]).to(device) for order in orders]
    terms: list[Tensor] = []
    for layers in zip(first, second, strict=True):
        views = [aligned(layer, index) for layer, index in zip(layers, indices, strict=True)]
        pairs = itertools.chain(*zip(*views, strict=True))  # queries of both, keys of both, ...
        terms.append(checkpoint(of_layer, *pairs, use_reentrant=False))
    return torch.stack(terms).mean(dim=0)


def distances(
    first: Float[Tensor, "b tokens tokens"],
    second: Float[Tensor, "b tokens tokens"],
    prefix_tokens: int,
    class_rows: slice,
) -> Float[Tensor, " two"]:
    """Mean absolute difference of what classes attend to among the patches, and of what patches attend to.

    Attention to prefix tokens, and that of registers, takes no part.
    """
    difference = (first - second)[:, :, prefix_tokens:].abs()
    return torch.stack([difference[:, class_rows].mean(), difference[:, prefix_tokens:].mean()])


def mean_map(parts: Parts, count: int) -> Float[Tensor, "b count count"]:
    """Softmax attention over all keys, averaged over heads, with gradient; of it, the first ``count`` tokens'.

    Numbers of 16 bits are widened before they are multiplied: a logit rounded to 8 bits would be a difference.
    """
    with without_autocast(parts[0]):
        queries, keys, *bias = map(widened, parts)
        logits = (queries[:, :, :count] * queries.shape[-1] ** -0.5) @ keys.transpose(2, 3)
        if bias:
            logits = logits + (bias[0] if bias[0].shape[2] == 1 else bias[0][:, :, :count])
        return logits.softmax(dim=-1)[..., :count].mean(dim=1)


def aligned(layer: LayerQK, index: Int64[Tensor, " tokens"] | None) -> Parts:
    """The same layer with its tokens in another order: attention then has it too, in rows and columns."""
    bias = () if layer.bias is None else (layer.bias,)
    if index is None:
        return layer.queries, layer.keys, *bias
    moved = (part.index_select(3, index) for part in bias)
    parts = (layer.queries, layer.keys, *moved)
    return tuple(part if part.shape[2] == 1 else part.index_select(2, index) for part in parts)
