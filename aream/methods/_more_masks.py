"""Masks of MoRe's regularisation: CAMs of all views in one, and where they are sure of a class or of none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream.metrics import BACKGROUND, IGNORE

FLOOR = 1e-5
"""Number added to the maximum that maps are divided by."""


@torch.no_grad()
def combined_maps(
    scales: Sequence[Sequence[Float[Tensor, "b k _ _"]]], size: tuple[int, int]
) -> Float[Tensor, "b k height width"]:
    """Maps of every scale as one in [0, 1), each enlarged to ``size``.

    Of an image and its mirrored one the larger value counts, rectified; scales are summed; then the spatial minimum is
    subtracted and the rest divided by (maximum + 1e-5).

    Args:
        scales: the maps of one scale, and with them, where there are, those of the mirrored images.
    """
    total: Tensor | float = 0.0
    for views in scales:
        full = [F.interpolate(maps, size=size, mode="bilinear", align_corners=False) for maps in views]
        larger = full[0] if len(full) == 1 else torch.maximum(full[0], full[1].flip(-1))
        total = total + larger.relu()
    assert isinstance(total, Tensor)
    total = total - total.amin(dim=(2, 3), keepdim=True)
    return total / (total.amax(dim=(2, 3), keepdim=True) + FLOOR)


@torch.no_grad()
def class_mask(
    maps: Float[Tensor, "b k h w"],
    classes: Int64[Tensor, "b k"],
    present: Bool[Tensor, "b k"],
    *,
    low: float,
    high: float,
) -> Int64[Tensor, "b h w"]:
    """The label of the largest map where it is above ``high``, background 0 where it is at most ``low``, else 255.

    Args:
        maps: in [0, 1].
        classes: 0-based, of each map; its label is one more.
        present: which of them the image holds; the others count as 0. Of equal maps the first one is taken.
    """
    value, winner = (maps * present[:, :, None, None]).max(dim=1)
    labels = (classes + 1).gather(1, winner.flatten(1)).reshape(winner.shape)
    labels = torch.where(value > high, labels, IGNORE)
    return labels.masked_fill(value <= low, BACKGROUND)
