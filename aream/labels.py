"""Labels derived from CAMs: reliable segmentation labels, and affinity labels between patches."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream.data._protocol import BACKGROUND, IGNORE
from aream.refiners._protocol import Refiner


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
) -> Int64[Tensor, "b height width"]:
    """Sure foreground gets its class id (1..c), sure background 0, all else 255 (AReAM Eqs. 10-13).

    For each alpha a constant background map of that score stands before the present classes; softmax over these
    channels, image refinement at ``1/downscale`` of the size, argmax. Foreground is what wins against
    ``alpha_high``, background what loses against ``alpha_low``.

    Args:
        cam: normalised to [0, 1].
        images: RGB in [0, 1].
        valid: False where the image is padding; labelled 255.

    Deviates from Eq. 13 as printed, whose two conditions overlap so that 255 cannot occur: the alphas are read as
    in the authors' code.
    """
    size = images.shape[2:]
    half = (max(1, size[0] // downscale), max(1, size[1] // downscale))
    small = F.interpolate(images, size=half, mode="bilinear", align_corners=False)
    kernel = refiner.kernel(small)
    scores = F.interpolate(cam, size=size, mode="bilinear", align_corners=False)
    scores = F.interpolate(scores, size=half, mode="bilinear", align_corners=False)
    channels = int(present.sum(dim=1).max())
    # Present classes first, padded to the fullest image: absent ones get no probability and cannot win.
    order = present.int().argsort(dim=1, descending=True, stable=True)[:, :channels]
    kept = present.gather(1, order)
    ids = F.pad(order + 1, (1, 0), value=BACKGROUND)
    picked = scores.gather(1, order[:, :, None, None].expand(-1, -1, *half))
    picked = picked.masked_fill(~kept[:, :, None, None], -torch.inf)
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


def affinity_labels(labels: Int64[Tensor, "b height width"], grid: tuple[int, int]) -> Int64[Tensor, "b n n"]:
    """1 where two patches carry the same label, 0 where not, 255 where either is ignored (AReAM Eq. 14).

    Labels are taken down to the patch grid by nearest neighbour. The diagonal stays positive and there is no
    radius, as in the authors' code.
    """
    small = F.interpolate(labels[:, None].float(), size=grid, mode="nearest").long().flatten(1)
    same = (small[:, :, None] == small[:, None, :]).long()
    ignored = small == IGNORE
    return same.masked_fill_(ignored[:, :, None] | ignored[:, None, :], IGNORE)
