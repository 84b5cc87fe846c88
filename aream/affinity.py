"""Attention affinities of a layer, from its queries and keys, and how sure each layer is.

Axes: b images, t class tokens (they come first), n patches, d channels of a head, l layers, c classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aream.cam import normalise, refine

GPU_ELEMENTS = 2**26
"""Of the attention maps that are on a GPU at the same time."""


def affinity_logits(
    queries: Float[Tensor, "b heads tokens d"], keys: Float[Tensor, "b heads tokens d"], class_tokens: int
) -> Float[Tensor, "b n n"]:
    """Attention logits averaged over heads, patch block: the argument of the sigmoid in AReAM Eq. 15.

    The mean over heads of Q_h K_h^T is one product of the heads' concatenated channels, so no
    (heads, n, n) tensor is built or kept for the gradient.
    """
    b, heads, _, d = queries.shape
    q = queries[:, :, class_tokens:].transpose(1, 2).reshape(b, -1, heads * d)
    k = keys[:, :, class_tokens:].transpose(1, 2).reshape(b, -1, heads * d)
    return (q * (d**-0.5 / heads)) @ k.transpose(1, 2)


@torch.no_grad()
def mean_attention(
    queries: Float[Tensor, "b heads rows d"], keys: Float[Tensor, "b heads tokens d"], class_tokens: int
) -> Float[Tensor, "b rows n"]:
    """Softmax attention over all keys, averaged over heads, patch columns only (AReAM Eqs. 3-5).

    A row needs its own query alone: those of class tokens (``queries[:, :, :t]``) give class to patch, those of
    patches (``queries[:, :, t:]``) the patch affinity. What a row gives to class tokens is dropped without
    renormalising, as the authors' code does, so rows sum to less than 1.
    """
    (b, heads, rows, d), tokens = queries.shape, keys.shape[2]
    scaled = queries.float() * d**-0.5
    # One head at a time keeps its map in a CPU's cache and the peak at one map; a GPU pays for every call instead.
    together = max(1, GPU_ELEMENTS // max(1, b * rows * tokens)) if queries.is_cuda else 1
    total = scaled.new_zeros(b, rows, tokens - class_tokens)
    for q, k in zip(scaled.split(together, dim=1), keys.split(together, dim=1), strict=True):
        attention = (q.flatten(0, 1) @ k.float().flatten(0, 1).transpose(1, 2)).softmax(dim=-1)[..., class_tokens:]
        total += attention if together == 1 else attention.unflatten(0, (b, -1)).sum(dim=1)
    return total.div_(heads)


@torch.no_grad()
def map_entropy(
    affinity: Float[Tensor, "b n n"],
    cam: Float[Tensor, "b c h w"],
    present: Bool[Tensor, "b c"],
    entropy_input: Literal["raw", "minmax"] = "raw",
    entropy_prob: Literal["softmax", "sum"] = "softmax",
) -> Float[Tensor, " b"]:
    """Entropy in bits of the position distribution of the refined CAM (AReAM Eq. 7 and the sum in Eq. 8).

    Args:
        entropy_input: the CAM as it comes (authors' code) or normalised to [0, 1] (as printed).
        entropy_prob: softmax over positions (as printed), or the map divided by its sum.
    """
    maps = normalise(cam) if entropy_input == "minmax" else cam
    refined = refine(maps * present[:, :, None, None], affinity).sum(dim=1).flatten(1)
    if entropy_prob == "softmax":
        probabilities = refined.softmax(dim=-1)
    else:
        # An image without any activation says nothing about a position: uniform. Hosts need not rectify their CAM.
        refined, floor = refined.clamp(min=0), torch.finfo(refined.dtype).tiny
        probabilities = (refined + floor) / (refined + floor).sum(dim=-1, keepdim=True)
    return -torch.special.xlogy(probabilities, probabilities).sum(dim=-1) / torch.log(refined.new_tensor(2.0))


def layer_weights(entropies: Float[Tensor, " l"]) -> Float[Tensor, " l"] | None:
    """w(l) = 1 - min-max over layers of the mean entropy, in [0, 1].

    None where all are equal: nothing tells the layers apart, so they count alike, in the fusion (w) and in the loss
    (1 - w), which no constant w would do.

    Deviates from AReAM Eq. 8 as printed, whose sign would give *more* weight to more entropy: the text and the
    authors' code mean the normalised inverse entropy.
    """
    low, high = entropies.min(), entropies.max()
    if high <= low:
        return None
    return 1 - (entropies - low) / (high - low)
