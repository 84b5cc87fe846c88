"""Labels derived from CAMs: reliable segmentation labels, and affinity labels between patches."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from aream.cams.maps import pick_maps
from aream.metrics import BACKGROUND, IGNORE
from aream.refiners.protocol import Refiner


def present_first(present: Bool[Tensor, "b c"]) -> tuple[Int64[Tensor, "b k"], Bool[Tensor, "b k"]]:
    """Indices of each image's present classes, ascending, and whether each is one.

    ``k`` is the number of the fullest image's classes, at least 1; what others have less is filled by absent ones.
    """
    count = max(1, int(present.sum(dim=1).max()))
    order = present.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    return order, present.gather(1, order)


@torch.no_grad()
def reliable_labels(
    cam: Float[Tensor, "b c h w"],
    present: Bool[Tensor, "b c"],
    images: Float[Tensor, "b 3 height width"],
    *,
    alpha_low: float,
    alpha_high: float,
    refiner: Refiner,
    downscale: int = 2,
    valid: Bool[Tensor, "b height width"] | None = None,
    ids: Int64[Tensor, "b c"] | None = None,
) -> Int64[Tensor, "b height width"]:
    """Sure foreground gets its class id (1..c), sure background 0, all else 255 (AReAM Eqs. 10-13).

    For each alpha a constant background map of that score stands before the present classes; softmax over these
    channels, image refinement at ``1/downscale`` of the size, argmax. Foreground is what wins against
    ``alpha_high``, background what loses against ``alpha_low``.

    Args:
        cam: normalised to [0, 1].
        images: RGB in [0, 1].
        valid: False where the image is padding; labelled 255.
        ids: label of each map, where an image's maps are not those of all classes in order; None: 1..c.

    Deviates from Eq. 13 as printed, whose two conditions overlap so that 255 cannot occur: the alphas are read as
    in the authors' code.
    """
    size = images.shape[2:]
    half = (max(1, size[0] // downscale), max(1, size[1] // downscale))
    small = F.interpolate(images, size=half, mode="bilinear", align_corners=False)
    kernel = refiner.kernel(small)
    order, kept = present_first(present)
    ids = F.pad(order + 1 if ids is None else ids.gather(1, order), (1, 0), value=BACKGROUND)
    picked = pick_maps(cam, order)
    if picked.shape[2:] != size:
        picked = F.interpolate(picked, size=size, mode="bilinear", align_corners=False)
    picked = F.interpolate(picked, size=half, mode="bilinear", align_corners=False)
    picked = picked.masked_fill(~kept[:, :, None, None], -torch.inf)  # no probability: absent classes cannot win
    stacks = [F.pad(picked, (0, 0, 0, 0, 1, 0), value=alpha).softmax(dim=1) for alpha in (alpha_low, alpha_high)]
    # One stack at a time: in a CRF the channels of a stack compete.
    low, high = (_winners(refiner.apply(kernel, stack), ids, size) for stack in stacks)
    labels = torch.where(high != BACKGROUND, high, torch.where(low != BACKGROUND, IGNORE, BACKGROUND))
    return labels if valid is None else labels.masked_fill(~valid, IGNORE)


def _winners(
    scores: Float[Tensor, "b k h w"], ids: Int64[Tensor, "b k"], size: tuple[int, int] | torch.Size
) -> Int64[Tensor, "b height width"]:
    full = F.interpolate(scores, size=tuple(size), mode="bilinear", align_corners=False)
    winner = full.max(dim=1).indices  # argmax over a strided axis is eight times slower on a CPU
    return ids.gather(1, winner.flatten(1)).reshape(winner.shape)


def affinity_labels(labels: Int64[Tensor, "b height width"], grid: tuple[int, int]) -> UInt8[Tensor, "b n n"]:
    """1 where two patches carry the same label, 0 where not, 255 where either is ignored (AReAM Eq. 14).

    Labels are taken down to the patch grid by nearest neighbour. The diagonal stays positive and there is no
    radius, as in the authors' code.
    """
    small = F.interpolate(labels[:, None].float(), size=grid, mode="nearest").long().flatten(1)
    same = (small[:, :, None] == small[:, None, :]).to(torch.uint8)  # n x n in int64 would outweigh the logits
    ignored = small == IGNORE
    return same.masked_fill_(ignored[:, :, None] | ignored[:, None, :], IGNORE)


def uncertain_share(
    labels: Int64[Tensor, "b height width"], valid: Bool[Tensor, "b height width"] | None = None
) -> Float[Tensor, ""]:
    """Share of an image's pixels, padding left out, that are labelled neither object nor background."""
    counted = torch.ones_like(labels, dtype=torch.bool) if valid is None else valid
    pixels = counted.sum(dim=(1, 2)).clamp(min=1)
    return (((labels == IGNORE) & counted).sum(dim=(1, 2)) / pixels).mean()
