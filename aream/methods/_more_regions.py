"""Regions of the patches of a batch that CAMs name while MoRe trains: of a class, of none, and uncertain ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream.engine.batches import Batch
from aream.labels.training_labels import uncertain_share
from aream.methods._more_config import Config
from aream.methods._more_masks import class_mask
from aream.methods._more_sampling import MOST, codes, drawn
from aream.metrics import BACKGROUND, IGNORE


@dataclass(frozen=True)
class Regions:
    """Masks of some images' patches: 0 background, class + 1, 255 uncertain."""

    certain: Int64[Tensor, "b h w"]
    """Mask that class tokens look at."""
    pairs: Int64[Tensor, "b h w"]
    """Mask that patches are held together and apart by."""
    picked: Int64[Tensor, "b m"]
    """Flat positions of the patches drawn from uncertain regions; -1 for none."""
    pixels: Int64[Tensor, "b height width"] | None
    """Labels of the decoder, by pixel; None: it learns nothing yet."""
    uncertain: Float[Tensor, ""]
    """Share of patches without a label, padding left out, of the mask that patches are drawn from."""


def count_certain(regions: Regions) -> Int64[Tensor, ""]:
    """Number of patches that surely are of a class."""
    return ((regions.certain != BACKGROUND) & (regions.certain != IGNORE)).sum()


@torch.no_grad()
def find_regions(
    batch: Batch,
    classes: Int64[Tensor, "b k"],
    present: Bool[Tensor, "b k"],
    auxiliary: Float[Tensor, "b k height width"],
    main: Float[Tensor, "b k height width"] | None,
    config: Config,
    grid: tuple[int, int],
    step: int,
    pixels: Int64[Tensor, "b height width"] | None = None,
) -> Regions:
    """The regions by the auxiliary CAM, and but for pairs by the main one where that is given too.

    Args:
        classes: of the maps of each image, 0-based, and which of them are ``present``.
        auxiliary: CAM in [0, 1), as ``main`` too.
        step: of the training, which draws depend on beside the image.
    """
    valid = None
    if batch.valid is not None:
        valid = F.interpolate(batch.valid[:, None].float(), size=grid, mode="nearest")[:, 0] > 0

    def mask(maps: Float[Tensor, "b k height width"], low: float, high: float) -> Int64[Tensor, "b h w"]:
        labels = class_mask(_on_grid(maps, grid), classes, present, low=low, high=high)
        return labels if valid is None else labels.masked_fill(~valid, IGNORE)

    pairs = mask(auxiliary, config.low, config.high)
    if main is not None:
        certain = uncertain = mask(main, config.main_low, config.main_high)
    else:
        certain, uncertain = mask(auxiliary, config.low, config.certain_high), pairs
    inside = uncertain if valid is None else uncertain.masked_fill(~valid, BACKGROUND)
    picked = torch.full((len(inside), MOST), -1)
    for index, of in enumerate(inside.cpu().numpy() if config.uncertain_weight > 0 else ()):
        found = torch.from_numpy(drawn(codes(of), batch.ids[index], step))
        picked[index, : len(found)] = found
    return Regions(certain, pairs, picked.to(pairs.device), pixels, uncertain_share(uncertain, valid))


def _on_grid(maps: Float[Tensor, "b k height width"], grid: tuple[int, int]) -> Float[Tensor, "b k h w"]:
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
