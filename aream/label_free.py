"""Background thresholds that need no ground truth: what each rule looks at, and which threshold it picks.

Neither rule is from the papers, whose thresholds are searched on ground truth or fixed numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8


class SplitCounts:
    """Pixels by class and by how many thresholds their score exceeds: of the CAM, and of the CAM before refinement.

    Sums over images, exact, 64-bit; everything a rule may look at, from one pass.
    """

    def __init__(self, classes: int, thresholds: int) -> None:
        """``classes`` counts the background."""
        shape = (classes, thresholds + 1)
        self.refined = np.zeros(shape, dtype=np.int64)
        self.plain = np.zeros(shape, dtype=np.int64)
        self.same = np.zeros(shape, dtype=np.int64)
        """Pixels whose strongest class is the same in both, by the lower of the two levels."""
        self.either = np.zeros(thresholds + 1, dtype=np.int64)
        """All pixels, by the lower of the two levels."""

    def add(
        self,
        classes: UInt8[np.ndarray, "h w"],
        levels: UInt8[np.ndarray, "h w"],
        plain_classes: UInt8[np.ndarray, "h w"] | None = None,
        plain_levels: UInt8[np.ndarray, "h w"] | None = None,
    ) -> None:
        """Count one image; without its plain maps there is nothing to agree with."""
        self._count(self.refined, classes, levels)
        if plain_classes is None or plain_levels is None:
            return
        self._count(self.plain, plain_classes, plain_levels)
        lower = np.minimum(levels, plain_levels)
        equal = classes == plain_classes
        self._count(self.same, classes[equal], lower[equal])
        self.either += np.bincount(lower.ravel(), minlength=len(self.either))

    def _count(self, total: Int64[np.ndarray, "k t"], classes: np.ndarray, levels: np.ndarray) -> None:
        index = classes.ravel().astype(np.int64) * total.shape[1] + levels.ravel()
        total += np.bincount(index, minlength=total.size).reshape(total.shape)


def otsu(counts: SplitCounts) -> int:
    """The threshold that splits the scores in two with the greatest variance between the parts (Otsu, 1979)."""
    histogram = counts.refined.sum(axis=0)
    levels = np.arange(len(histogram))
    below = np.cumsum(histogram)[:-1].astype(np.float64)
    above = histogram.sum() - below
    sums = np.cumsum(histogram * levels)[:-1].astype(np.float64)
    rest = (histogram * levels).sum() - sums
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = below * above * (sums / below - rest / above) ** 2
    return int(np.argmax(np.nan_to_num(variance)))


def agreement(counts: SplitCounts) -> int:
    """The threshold at which the labels of the CAM before and after refinement agree best, beyond chance.

    Agreement is Cohen's kappa over pixels (Cohen, 1960), which is 0 for two maps that are all background or all
    object however much they look alike. Choosing what changes least between two views of the same data is stability
    selection (Lange et al., 2004). Where nothing was refined every threshold agrees with itself: then Otsu's.
    """
    kappas = kappa_curve(counts)
    if kappas is None:
        return otsu(counts)
    return int(np.argmax(kappas))


def kappa_curve(counts: SplitCounts) -> Float64[np.ndarray, " t"] | None:
    """Cohen's kappa of the two label maps at every threshold; None where there are no two."""
    if not counts.either.any() or (np.array_equal(counts.same, counts.refined) and _equal(counts)):
        return None
    total = float(counts.either.sum())
    refined, plain, same = (_above(part) / total for part in (counts.refined, counts.plain, counts.same))
    both = _above(counts.either) / total
    refined_background, plain_background = 1 - refined.sum(axis=0), 1 - plain.sum(axis=0)
    observed = same.sum(axis=0) + refined_background + plain_background - (1 - both)
    expected = (refined * plain).sum(axis=0) + refined_background * plain_background
    return np.where(expected < 1, (observed - expected) / np.maximum(1 - expected, 1e-12), 0.0)


def _above(counts: Int64[np.ndarray, "*k t"]) -> Int64[np.ndarray, "*k t2"]:
    """Pixels whose level is above each threshold."""
    return counts.sum(axis=-1, keepdims=True) - counts.cumsum(axis=-1)[..., :-1]


def _equal(counts: SplitCounts) -> bool:
    return np.array_equal(counts.plain, counts.refined)


@dataclass(frozen=True)
class Rule:
    description: str
    choose: Callable[[SplitCounts], int]
    """Index of a threshold."""


RULES = {
    "otsu": Rule("Otsu's split of the scores", otsu),
    "agreement": Rule("where labels before and after refinement agree best beyond chance (Cohen's kappa)", agreement),
}


def choices(counts: SplitCounts) -> dict[str, int]:
    """The index of the threshold each rule picks."""
    return {name: rule.choose(counts) for name, rule in RULES.items()}
