"""Attention affinities of a layer, from its queries and keys, and how sure each layer is.

Axes: b images, t class tokens (they come first), n patches, d channels of a head, l layers, c classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aream.cam import normalise, refine


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
    heads, d = queries.shape[1], queries.shape[3]
    scaled = queries.float() * d**-0.5
    total: Tensor | None = None
    for head in range(heads):  # one head at a time: the peak is one map, not one a head
        logits = scaled[:, head] @ keys[:, head].float().transpose(1, 2)
        attention = logits.softmax(dim=-1)[..., class_tokens:]
        total = attention if total is None else total.add_(attention)
    assert total is not None  # there is at least one head
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


def layer_weights(entropies: Float[Tensor, " l"]) -> Float[Tensor, " l"]:
    """w(l) = 1 - min-max over layers of the mean entropy, in [0, 1]; all equal gives ones.

    Deviates from AReAM Eq. 8 as printed, whose sign would give *more* weight to more entropy: the text and the
    authors' code mean the normalised inverse entropy.
    """
    low, high = entropies.min(), entropies.max()
    if high <= low:
        return torch.ones_like(entropies)
    return 1 - (entropies - low) / (high - low)
