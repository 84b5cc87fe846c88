"""The background threshold: every candidate counted in one pass."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from aream.errors import ConfigError
from aream.metrics import IGNORE

BINS = 4096
CPU = torch.device("cpu")


def bins_of(thresholds: Float32[np.ndarray, " t"]) -> Int64[np.ndarray, " t"]:
    """The bin of each threshold among ``BINS`` equal ones.

    Raises:
        ConfigError: they do not ascend in [0, 1), at most 255 of them, further apart than a bin.
    """
    bins = (thresholds * BINS).astype(np.int64)
    if len(thresholds) > 255 or np.any(np.diff(bins) < 1) or np.any(bins < 0) or np.any(bins >= BINS):
        raise ConfigError(
            f"thresholds: need at most 255 in [0, 1), ascending by more than 1/{BINS}; "
            f"got {len(thresholds)} from {thresholds.min():g} to {thresholds.max():g}"
        )
    return bins


class ScoreLevels:
    """How many thresholds each score exceeds, exactly, by one table look-up and one comparison a pixel.

    Scores fall into 4096 equal bins; multiplying a float32 by a power of two is exact, so bins have sharp edges. A bin
    holds at most one threshold, and only that one has to be compared.
    """

    def __init__(self, thresholds: Float32[np.ndarray, " t"], device: torch.device = CPU) -> None:
        """Raises ConfigError for ``thresholds`` that :func:`bins_of` refuses."""
        bins = bins_of(thresholds)
        below = np.searchsorted(bins, np.arange(BINS + 1), side="left").astype(np.uint8)
        inside = np.full(BINS + 1, np.inf, dtype=np.float32)
        inside[bins] = thresholds
        self.below, self.inside = torch.from_numpy(below).to(device), torch.from_numpy(inside).to(device)

    def __call__(self, scores: Float32[Tensor, "h w"]) -> UInt8[Tensor, "h w"]:
        bins = (scores * BINS).int().clamp_(0, BINS)
        return self.below[bins] + (scores > self.inside[bins])


class ThresholdCounts:
    """Confusion matrices for all thresholds at once, exact, on the device of the scores.

    A pixel is its strongest class where that score is strictly above the threshold (float32), else background. So
    it is enough to count (ground truth, strongest class, number of thresholds below the score); cumulative sums
    over the last give every threshold's matrix. Counters are 64-bit.
    """

    def __init__(self, classes: int, thresholds: int, device: torch.device = CPU) -> None:
        """``classes`` counts the background; ``thresholds`` is how many there are."""
        self.counts = torch.zeros((classes, classes, thresholds + 1), dtype=torch.int64, device=device)

    def add(self, strongest: UInt8[Tensor, "h w"], levels: UInt8[Tensor, "h w"], target: UInt8[Tensor, "h w"]) -> None:
        """Count one image: the class of each pixel, how many thresholds its score exceeds, and the ground truth."""
        classes, _, steps = self.counts.shape
        index = (target.long() * classes + strongest) * steps + levels
        index = index.masked_fill_(target == IGNORE, self.counts.numel())  # into a bin that is cut off
        found = torch.bincount(index.flatten(), minlength=self.counts.numel() + 1)
        self.counts += found[:-1].reshape(self.counts.shape)

    def confusions(self) -> Int64[np.ndarray, "t k k"]:
        """One confusion matrix a threshold, rows ground truth."""
        counts = self.counts.cpu().numpy()
        total = counts.sum(axis=2)
        below = counts.cumsum(axis=2)[:, :, :-1]  # [..., i]: pixels whose score is not above threshold i
        confusions = np.moveaxis(total[:, :, None] - below, 2, 0)
        confusions[:, :, 0] += np.moveaxis(below.sum(axis=1), 1, 0)
        return confusions
