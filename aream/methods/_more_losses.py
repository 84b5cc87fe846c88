"""The losses of MoRe: what class tokens and patches are held to, as functions of numbers alone.

Source: Yang et al., AAAI 2025, its section on localisation-informed regularisation (the certain and the uncertain
regions), and ToCo (Ru et al., CVPR 2023) for the contrast of patches; the authors' code where the paper leaves it open.

Axes: b images, c classes, n patches, d channels. Labels of patches: 0 background, class + 1, 255 uncertain.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from aream.engine.losses import PairCounts, count_pairs
from aream.labels.training_labels import affinity_labels
from aream.metrics import IGNORE

CLASS_TEMPERATURE = 0.07
"""Temperature of the contrast of class tokens."""
ADDED = 1e-4
"""Number added to the count of patches that a mean is taken over."""
NORM_FLOOR = 1e-8
"""Least length that a token is divided by."""


def class_contrast(tokens: Float[Tensor, "b c d"]) -> Float[Tensor, " b"]:
    """Cross-entropy that tells every class token from the others of its image by cosine, absent classes included."""
    unit = F.normalize(tokens, dim=-1)
    logits = unit @ unit.transpose(1, 2) / CLASS_TEMPERATURE
    own = logits.log_softmax(dim=-1).diagonal(dim1=1, dim2=2)
    return -own.mean(dim=1)


def certain_loss(
    tokens: Float[Tensor, "b c d"],
    patches: Float[Tensor, "b n d"],
    mask: Int64[Tensor, "b n"],
    present: Bool[Tensor, "b c"],
    temperature: float,
) -> Float[Tensor, " b"]:
    """Class tokens look at the patches that are surely theirs: cross-entropy over patches, summed over present classes.

    A class without such a patch adds 0. Gradients reach the class tokens alone; their length does not count, that of
    patches does.

    Deviates from the authors' code, whose quotient of exponentials is NaN where a logit exceeds 88 in single precision
    and has 1e-4 added to the denominator: this is a log-softmax, which differs from it by about 1e-6 of its value.
    """
    logits = F.normalize(tokens, dim=-1, eps=NORM_FLOOR) @ patches.detach().transpose(1, 2) / temperature
    classes = torch.arange(1, tokens.shape[1] + 1, device=mask.device)
    own = (mask[:, None] == classes[None, :, None]) & present[:, :, None]
    means = (-logits.log_softmax(dim=-1) * own).sum(dim=2) / (own.sum(dim=2) + ADDED)
    return means.sum(dim=1)


def uncertain_loss(
    tokens: Float[Tensor, "b c d"],
    patches: Float[Tensor, "b n d"],
    picked: Int64[Tensor, "b m"],
    present: Bool[Tensor, "b c"],
) -> Float[Tensor, ""]:
    """Drawn patches are pulled to the class tokens of their image's classes and pushed from all others.

    A sum over the drawn patches, to be divided by their number in the whole batch. Gradients reach the patches alone.

    Args:
        picked: flat positions; -1 for none.
    """
    unit = F.normalize(patches, dim=-1, eps=NORM_FLOOR)
    drawn = unit.gather(1, picked.clamp(min=0)[:, :, None].expand(-1, -1, unit.shape[2]))
    likeness = (drawn @ F.normalize(tokens.detach(), dim=-1, eps=NORM_FLOOR).transpose(1, 2)).abs()
    mean_of = [
        (likeness * held[:, None]).sum(dim=2) / (held.sum(dim=1, keepdim=True) + 1) for held in (present, ~present)
    ]
    terms = 0.5 * (1 - mean_of[0]) + 0.5 * mean_of[1]
    return (terms * (picked >= 0)).sum()


def patch_pairs(mask: Int64[Tensor, "b h w"]) -> UInt8[Tensor, "b n n"]:
    """Return 1 where two patches have one label, 0 where not, 255 where either is uncertain, and for a patch with
    itself."""
    pairs = affinity_labels(mask, (mask.shape[1], mask.shape[2]))
    pairs.diagonal(dim1=1, dim2=2).fill_(IGNORE)
    return pairs


def patch_contrast(
    patches: Float[Tensor, "b n d"],
    pairs: UInt8[Tensor, "b n n"],
    counts: PairCounts | None = None,
    share: float = 1.0,
) -> Float[Tensor, ""]:
    """Patches of one label are alike by the amount of their cosine, others are not: half each, over the whole batch.

    Args:
        counts: alike and unlike pairs of the whole batch, of which these images are a ``share``; None: they are it.
    """
    unit = F.normalize(patches, dim=-1, eps=NORM_FLOOR)
    likeness = (unit @ unit.transpose(1, 2)).abs()
    alike, unlike = count_pairs(pairs) if counts is None else counts
    pulled, pushed = (torch.where(pairs == kind, likeness, 0).sum() for kind in (1, 0))
    return 0.5 * (share - pulled / (alike + 1)) + 0.5 * pushed / (unlike + 1)
