"""MoRe's own segmentation: a decoder on the last layer's patches, and its loss against labels made from the main CAM.

Source: Yang et al., MoRe, AAAI 2025, authors' code (``LargeFOV``, ``get_seg_loss``); its labels are those of Ru et al.,
AFA, CVPR 2022.
Axes: b images, k = C + 1 classes with the background first, n patches.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from aream.metrics import BACKGROUND, IGNORE

FLOOR = 1e-6
"""Number added to the count of pixels that a mean is taken over."""
PixelCounts = Int64[Tensor, " two"]
"""Numbers of pixels that are labelled as background, and as a class."""


class Decoder(nn.Module):
    """Two dilated 3 x 3 convolutions and one of 1 x 1, all without bias, drawn as torch does."""

    def __init__(self, dim: int, classes: int, channels: int, dilation: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, classes + 1, 1, bias=False),
        )

    def forward(self, patches: Float[Tensor, "b n dim"], grid: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        logits: Tensor = self.layers(patches.transpose(1, 2).unflatten(2, grid))
        return logits


def count_pixels(labels: Int64[Tensor, "b height width"]) -> PixelCounts:
    background = labels == BACKGROUND
    return torch.stack([background.sum(), (labels != IGNORE).sum() - background.sum()])


def segmentation_loss(
    logits: Float[Tensor, "b k h w"], labels: Int64[Tensor, "b height width"], counted: PixelCounts
) -> Float[Tensor, ""]:
    """Half the mean cross-entropy over background pixels and half that over classes'; ignored pixels have none.

    Args:
        logits: enlarged to the size of the labels.
        counted: over the whole batch, so that the losses of its parts add up.
    """
    full = F.interpolate(logits, size=tuple(labels.shape[1:]), mode="bilinear", align_corners=False)
    each = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="none")
    sums = each[labels == BACKGROUND].sum(), each[(labels != BACKGROUND) & (labels != IGNORE)].sum()
    return (torch.stack(sums) / (counted + FLOOR)).mean()
