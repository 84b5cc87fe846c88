"""Background thresholds that need no ground truth: what each rule looks at, and which threshold it picks.

None of them is from the papers, whose thresholds are searched on ground truth or fixed numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aream.errors import DataError
from aream.labels.thresholds import CPU

UNITS = 2**20
"""One of a contrast."""


@dataclass(frozen=True)
class Contrast:
    """How much neighbouring pixels differ, as a multiple of an image's mean difference, minus 1; in ``UNITS``.

    Positive where an edge is stronger than a boundary laid at random would find; 0 everywhere in a constant image.
    Whole numbers, since their sums are the same in any order, on any device.
    """

    right: Int64[Tensor, "h w1"]
    down: Int64[Tensor, "h1 w"]

    @classmethod
    def of(cls, image: UInt8[Tensor, "h w 3"]) -> Contrast:
        """Differences are means over the channels of absolute differences."""
        pixels = image.short()
        right, down = (pixels.diff(dim=axis).abs_().sum(dim=2) for axis in (1, 0))
        total, pairs = right.sum() + down.sum(), right.numel() + down.numel()
        scale = UNITS * pairs / total.clamp(min=1).double()
        excess = (((part * scale) - UNITS).round_().long() * (total > 0) for part in (right, down))
        return cls(*excess)


class SplitCounts:
    """What the rules look at, of every threshold at once, from one pass over the images."""

    def __init__(self, thresholds: int, device: torch.device = CPU) -> None:
        self.histogram = torch.zeros(thresholds + 1, dtype=torch.int64, device=device)
        """Pixels by how many thresholds their score exceeds."""
        self.steps = torch.zeros_like(self.histogram)
        """Sum of the boundary's contrast, as the change from each threshold to the next."""

    def add(self, levels: UInt8[Tensor, "h w"], contrast: Contrast | None) -> None:
        """Count one image; without its contrast there is nothing to say about edges."""
        self.histogram += torch.bincount(levels.flatten(), minlength=len(self.histogram))
        if contrast is None:
            return
        for first, second, weights in (
            (levels[:, :-1], levels[:, 1:], contrast.right),
            (levels[:-1], levels[1:], contrast.down),
        ):
            # The boundary of threshold i passes between two pixels where lower <= i < higher.
            for place, sign in ((torch.minimum(first, second), 1), (torch.maximum(first, second), -1)):
                self.steps.scatter_add_(0, place.flatten().long(), sign * weights.flatten())


def otsu(counts: SplitCounts) -> int:
    """The threshold that splits the scores in two with the greatest variance between the parts (Otsu, 1979).

    Raises:
        DataError: the scores lie all between the same two thresholds, or there are none.
    """
    histogram = counts.histogram.cpu().numpy()
    levels = np.arange(len(histogram))
    below = np.cumsum(histogram)[:-1].astype(np.float64)
    above = histogram.sum() - below
    sums = np.cumsum(histogram * levels)[:-1].astype(np.float64)
    rest = (histogram * levels).sum() - sums
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.nan_to_num(below * above * (sums / below - rest / above) ** 2)
    if not variance.any():
        raise DataError(
            f"otsu: no threshold splits the {int(histogram.sum())} scores: all lie between the same two thresholds"
        )
    return int(np.argmax(variance))


def edges(counts: SplitCounts) -> int:
    """The threshold whose boundaries between object and background lie on the strongest edges of the images.

    After Kohler (A segmentation system based on thresholding, 1981), who picks the threshold of greatest average
    contrast along the boundary. Deviates: the sum of the contrast in excess of each image's mean, since averages are
    greatest where next to nothing is left; and the boundary is that of the CAM, the contrast the image's.

    Raises:
        DataError: no boundary at any threshold has a contrast: no image was given, all are constant, or all scores lie
            between the same two thresholds.
    """
    if not counts.steps.any():
        raise DataError("edges: no boundary of a CAM at any threshold lies on a contrast of its image")
    return int(np.argmax(np.cumsum(counts.steps.cpu().numpy())[:-1]))


@dataclass(frozen=True)
class Rule:
    description: str
    choose: Callable[[SplitCounts], int]
    """Index of a threshold."""


RULES = {
    "otsu": Rule("Otsu's split of the scores", otsu),
    "edges": Rule("boundaries on the strongest edges of the images, after Kohler", edges),
}


def choices(counts: SplitCounts) -> dict[str, int]:
    """The index of the threshold that each rule picks; without those that have nothing to choose by."""
    picked = {}
    for name, rule in RULES.items():
        with contextlib.suppress(DataError):
            picked[name] = rule.choose(counts)
    return picked
