"""The background threshold: every candidate counted in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from aream.errors import ConfigError
from aream.metrics import IGNORE

BINS = 4096


class ScoreLevels:
    """How many thresholds each score exceeds, exactly, by one table look-up and one comparison a pixel.

    Scores fall into 4096 equal bins; multiplying a float32 by a power of two is exact, so bins have sharp edges. A bin
    holds at most one threshold, and only that one has to be compared.
    """

    def __init__(self, thresholds: Float32[np.ndarray, " t"]) -> None:
        """``thresholds`` ascend in [0, 1), at most 255 of them, further apart than 1/4096.

        Raises:
            ConfigError: they do not.
        """
        bins = (thresholds * BINS).astype(np.int64)
        if len(thresholds) > 255 or np.any(np.diff(bins) < 1) or np.any(bins < 0) or np.any(bins >= BINS):
            raise ConfigError(f"thresholds: need at most 255 in [0, 1), ascending by more than 1/{BINS}")
        self.below = np.searchsorted(bins, np.arange(BINS + 1), side="left").astype(np.uint8)
        self.inside = np.full(BINS + 1, np.inf, dtype=np.float32)
        self.inside[bins] = thresholds

    def __call__(self, scores: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
        bins = np.clip((scores * BINS).astype(np.int32), 0, BINS)
        return self.below[bins] + (scores > self.inside[bins])


class ThresholdCounts:
    """Confusion matrices for all thresholds at once, exact.

    A pixel is its strongest class where that score is strictly above the threshold (float32), else background. So
    it is enough to count (ground truth, strongest class, number of thresholds below the score); cumulative sums
    over the last give every threshold's matrix. Counters are 64-bit.
    """

    def __init__(self, classes: int, thresholds: Float64[np.ndarray, " t"]) -> None:
        """``classes`` counts the background; ``thresholds`` ascend."""
        self.classes = classes
        self.levels = ScoreLevels(thresholds.astype(np.float32))
        self.counts = np.zeros((classes, classes, len(thresholds) + 1), dtype=np.int64)

    def add(
        self,
        scores: Float32[np.ndarray, "k h w"],
        class_ids: Sequence[int],
        target: UInt8[np.ndarray, "h w"],
    ) -> None:
        """Count one image; ``class_ids`` are the mask ids of the k channels, the first wins ties."""
        if len(class_ids) == 0:
            strongest = np.zeros(target.shape, dtype=np.uint8)
            levels = np.zeros(target.shape, dtype=np.uint8)
        else:
            strongest = np.asarray(class_ids, dtype=np.uint8)[scores.argmax(axis=0)]
            levels = self.levels(scores.max(axis=0))
        self.add_levels(strongest, levels, target)

    def add_levels(
        self,
        strongest: UInt8[np.ndarray, "h w"],
        levels: UInt8[np.ndarray, "h w"],
        target: UInt8[np.ndarray, "h w"],
    ) -> None:
        """Count one image whose scores are already counted against the thresholds."""
        counted = target != IGNORE
        steps = self.counts.shape[2]
        index = (target[counted].astype(np.int64) * self.classes + strongest[counted]) * steps + levels[counted]
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)

    def confusions(self) -> Int64[np.ndarray, "t k k"]:
        """One confusion matrix a threshold, rows ground truth."""
        total = self.counts.sum(axis=2)
        below = self.counts.cumsum(axis=2)[:, :, :-1]  # [..., i]: pixels whose score is not above threshold i
        confusions = np.moveaxis(total[:, :, None] - below, 2, 0)
        confusions[:, :, 0] += np.moveaxis(below.sum(axis=1), 1, 0)
        return confusions
