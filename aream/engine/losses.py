"""Training losses: image classification and attention affinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.nn import functional as F


def classification_loss(logits: tuple[Float[Tensor, "b c"], ...], target: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Multi-label soft margin of every head, summed (MCTformer-V2)."""
    return torch.stack([F.multilabel_soft_margin_loss(head, target) for head in logits]).sum()


PairCounts = tuple[Int64[Tensor, ""], Int64[Tensor, ""]]
"""Numbers of positive and of negative pairs."""


def count_pairs(labels: Integer[Tensor, "b n n"]) -> PairCounts:
    return (labels == 1).sum(), (labels == 0).sum()


def pair_weights(
    labels: Integer[Tensor, "b n n"], counts: PairCounts | None = None
) -> tuple[Float[Tensor, "b n n"], Float[Tensor, ""]]:
    """Weights W and constant c with loss(layer) = c + sum W * sigmoid(logits) (AReAM Eq. 15, rearranged).

    Positive pairs pull (1 - sigmoid), negative ones push (sigmoid), half each; counts are over the batch, plus
    one, so an empty set contributes nothing. With the ``counts`` of a batch that ``labels`` are a part of, weights and
    constants are those of the whole batch: over its parts the loss sums to the batch's.

    Deviates from Eq. 15 as printed by the factor one half and the plus one, both from the authors' code.
    """
    positive, negative = labels == 1, labels == 0
    count_positive, count_negative = count_pairs(labels) if counts is None else counts
    weights = negative * (0.5 / (count_negative + 1)) - positive * (0.5 / (count_positive + 1))
    return weights, 0.5 * positive.sum() / (count_positive + 1)


def affinity_loss(
    logits: Sequence[Float[Tensor, "b n n"]],
    labels: Integer[Tensor, "b n n"],
    layer_weights: Float[Tensor, " l"] | None = None,
    reduce: Literal["mean", "sum"] = "mean",
    counts: PairCounts | None = None,
) -> Float[Tensor, ""]:
    """Affinity loss over the supervised layers (AReAM Eqs. 15-16).

    Args:
        logits: one tensor a layer, averaged over heads, before the sigmoid.
        layer_weights: the normalised entropy of each of these layers (1 - w); None weights all by 1.
        reduce: mean over layers (authors' code), or sum (Eq. 16).
        counts: pairs of the whole batch, where these images are a part of it; None: they are the batch.

    Returns:
        Exactly 0, with zero gradient, where every pair is ignored.
    """
    weights, constant = pair_weights(labels, counts)
    terms = [constant + (weights * layer.sigmoid()).sum() for layer in logits]
    per_layer = torch.stack(terms)
    if layer_weights is not None:
        per_layer = per_layer * layer_weights.to(per_layer)
    return per_layer.mean() if reduce == "mean" else per_layer.sum()
