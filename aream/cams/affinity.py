"""Attention affinities of a layer, from its queries and keys, and how sure each layer is.

Axes: b images, t prefix tokens (they come first), n patches, d channels of a head, l layers, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aream.cams.maps import normalise, refine
from aream.cams.precision import widened, without_autocast

GPU_ELEMENTS = 2**26
"""Most elements of the attention maps that are on a GPU at the same time."""


def affinity_logits(layer: LayerQK, prefix_tokens: int) -> Float[Tensor, "b n n"]:
    """Attention logits averaged over heads, patch block: the argument of the sigmoid in AReAM Eq. 15.

    The mean over heads of Q_h K_h^T is one product of the heads' concatenated channels, so no
    (heads, n, n) tensor is built or kept for the gradient.
    """
    t, (b, heads, _, d) = prefix_tokens, layer.queries.shape
    q = layer.queries[:, :, t:].transpose(1, 2).reshape(b, -1, heads * d)
    k = layer.keys[:, :, t:].transpose(1, 2).reshape(b, -1, heads * d)
    logits = (q * (d**-0.5 / heads)) @ k.transpose(1, 2)
    if layer.bias is None:
        return logits
    bias = layer.bias[..., t:]
    return logits + (bias if bias.shape[2] == 1 else bias[:, :, t:]).mean(dim=1)


def mean_attention(layer: LayerQK, rows: slice, prefix_tokens: int) -> Float[Tensor, "b rows n"]:
    """Softmax attention over all keys, averaged over heads, patch columns only (AReAM Eqs. 3-5).

    A row needs its own query alone: ``rows`` of class tokens give class to patch, those of patches the patch affinity
    (:func:`patch_affinity`). What a row gives to prefix tokens is dropped without renormalising, as the authors' code
    does, so rows sum to less than 1.
    """
    return attention(layer, rows, slice(prefix_tokens, None))


def patch_affinity(layer: LayerQK, prefix_tokens: int) -> Float[Tensor, "b n n"]:
    """:func:`mean_attention` of the patches: what refines CAMs."""
    return mean_attention(layer, slice(prefix_tokens, None), prefix_tokens)


@torch.no_grad()
def attention(layer: LayerQK, rows: slice, columns: slice) -> Float[Tensor, "b rows columns"]:
    """Softmax attention over all keys, averaged over heads; of it, the rows and columns that are asked for."""
    queries, keys, bias = layer.queries[:, :, rows], layer.keys, layer.bias
    (b, heads, count, d), tokens = queries.shape, keys.shape[2]
    if bias is not None:
        bias = (bias if bias.shape[2] == 1 else bias[:, :, rows]).expand(b, heads, count, tokens)
    scaled = widened(queries) * d**-0.5
    # One head at a time keeps its map in a CPU's cache and the peak at one map; a GPU pays for every call instead.
    together = max(1, GPU_ELEMENTS // max(1, b * count * tokens)) if queries.is_cuda else 1
    total = scaled.new_zeros(b, count, len(range(tokens)[columns]))
    for first in range(0, heads, together):
        some = slice(first, first + together)
        with without_autocast(scaled):
            logits = scaled[:, some] @ widened(keys[:, some]).transpose(2, 3)
        if bias is not None:
            logits += bias[:, some]
        maps = logits.softmax(dim=-1)[..., columns]
        total += maps[:, 0] if together == 1 else maps.sum(dim=1)
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


@dataclass(frozen=True)
class LayerQK:
    """Queries and keys that the attention of a transformer layer is made of; prefix tokens first, then patches; not
    scaled.

    Kept instead of the attention itself: the affinity logits averaged over heads are one product of them, and
    the softmax maps are needed only without gradient and only for some layers.
    """

    queries: Float[Tensor, "b heads tokens d"]
    keys: Float[Tensor, "b heads tokens d"]
    bias: Float[Tensor, "#b #heads #tokens tokens"] | None = None
    """Term added to the scaled logits before the softmax, such as that of relative positions; None: nothing is."""

    values: Float[Tensor, "b heads tokens d"] | None = None
    """Values of the heads; None, like ``attended``: not handed out."""
    attended: Float[Tensor, "b heads tokens d"] | None = None
    """Output of the heads before the projection: softmax(q k' d^-1/2 + bias) v. The gradient of anything with respect
    to a row of a head's attention is its gradient with respect to that row of this, times the values."""

    def image_rows(self, start: int, end: int) -> LayerQK:
        """The same of a range of the images."""
        values, attended = (part if part is None else part[start:end] for part in (self.values, self.attended))
        bias = self.bias if self.bias is None or len(self.bias) == 1 else self.bias[start:end]
        return LayerQK(self.queries[start:end], self.keys[start:end], bias, values, attended)
