"""What CAMs say of the patches of a batch while MoRe trains: regions of a class, of none, and uncertain ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream.engine.batches import Batch
from aream.labels.training_labels import uncertain_share
from aream.methods._more_config import Config
from aream.methods._more_masks import class_mask, combined_maps
from aream.methods._more_sampling import MOST, codes, drawn
from aream.metrics import BACKGROUND, IGNORE

MapsOfScales = Sequence[Sequence[Float[Tensor, "b k _ _"]]]
"""Maps of the present classes at every scale, of the image and of its mirror where that is seen."""


@dataclass(frozen=True)
class Regions:
    """Of some images' patches: 0 background, class + 1, 255 uncertain."""

    certain: Int64[Tensor, "b h w"]
    """For class tokens to look at."""
    pairs: Int64[Tensor, "b h w"]
    """For patches to be held together and apart by."""
    picked: Int64[Tensor, "b m"]
    """Flat positions of the patches drawn from uncertain regions; -1 for none."""
    uncertain: float
    """Share of patches without a label, padding left out, of the mask that patches are drawn from."""


@torch.no_grad()
def find_regions(
    batch: Batch,
    classes: Int64[Tensor, "b k"],
    present: Bool[Tensor, "b k"],
    maps: Sequence[MapsOfScales],
    config: Config,
    grid: tuple[int, int],
    step: int,
) -> Regions:
    """The regions by the auxiliary CAM, and but for pairs by the main one where that is given too.

    Args:
        maps: auxiliary ones, and main ones or none.
        classes: of the maps of each image, 0-based, and which of them are ``present``.
        step: of the training, which draws depend on beside the image.
    """
    valid = None
    if batch.valid is not None:
        valid = F.interpolate(batch.valid[:, None].float(), size=grid, mode="nearest")[:, 0] > 0
    size = (batch.images.shape[2], batch.images.shape[3])
    auxiliary, *main = (_on_grid(combined_maps(each, size), grid) for each in maps)

    def mask(maps: Float[Tensor, "b k h w"], low: float, high: float) -> Int64[Tensor, "b h w"]:
        labels = class_mask(maps, classes, present, low=low, high=high)
        return labels if valid is None else labels.masked_fill(~valid, IGNORE)

    pairs = mask(auxiliary, config.low, config.high)
    if main:
        certain = uncertain = mask(main[0], config.main_low, config.main_high)
    else:
        certain, uncertain = mask(auxiliary, config.low, config.certain_high), pairs
    inside = uncertain if valid is None else uncertain.masked_fill(~valid, BACKGROUND)
    picked = torch.full((len(inside), MOST), -1)
    for index, of in enumerate(inside.cpu().numpy() if config.uncertain_weight > 0 else ()):
        found = torch.from_numpy(drawn(codes(of), batch.ids[index], step))
        picked[index, : len(found)] = found
    return Regions(certain, pairs, picked.to(pairs.device), uncertain_share(uncertain, valid))


def _on_grid(maps: Float[Tensor, "b k height width"], grid: tuple[int, int]) -> Float[Tensor, "b k h w"]:
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
