"""Background thresholds that need no ground truth: what each rule looks at, and which threshold it picks.

None of them is from the papers, whose thresholds are searched on ground truth or fixed numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from aream.errors import DataError


@dataclass(frozen=True)
class Contrast:
    """How much neighbouring pixels differ, as a multiple of an image's mean difference, minus 1.

    Positive where an edge is stronger than a boundary laid at random would find; 0 everywhere in a constant image.
    """

    right: Float32[np.ndarray, "h w1"]
    down: Float32[np.ndarray, "h1 w"]

    @classmethod
    def of(cls, image: UInt8[np.ndarray, "h w 3"]) -> Contrast:
        """Differences are means over the channels of absolute differences."""
        pixels = image.astype(np.float32)
        right, down = (np.abs(np.diff(pixels, axis=axis)).mean(axis=2) for axis in (1, 0))
        total, pairs = float(right.sum(dtype=np.float64) + down.sum(dtype=np.float64)), right.size + down.size
        if total == 0:
            return cls(np.zeros_like(right), np.zeros_like(down))
        mean = np.float32(total / pairs)
        return cls(right / mean - 1, down / mean - 1)


class SplitCounts:
    """What the rules look at, of every threshold at once, from one pass over the images."""

    def __init__(self, thresholds: int) -> None:
        self.histogram = np.zeros(thresholds + 1, dtype=np.int64)
        """Pixels by how many thresholds their score exceeds."""
        self.steps = np.zeros(thresholds + 1)
        """Sum of the boundary's contrast, as the change from each threshold to the next."""

    def add(self, levels: UInt8[np.ndarray, "h w"], contrast: Contrast | None) -> None:
        """Count one image; without its contrast there is nothing to say about edges."""
        self.histogram += np.bincount(levels.ravel(), minlength=len(self.histogram))
        if contrast is None:
            return
        for first, second, weights in (
            (levels[:, :-1], levels[:, 1:], contrast.right),
            (levels[:-1], levels[1:], contrast.down),
        ):
            apart = first != second
            lower, higher = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
            # The boundary of threshold i passes between two pixels where lower <= i < higher.
            for place, sign in ((lower, 1), (higher, -1)):
                self.steps += sign * np.bincount(place, weights=weights[apart], minlength=len(self.steps))


def otsu(counts: SplitCounts) -> int:
    """The threshold that splits the scores in two with the greatest variance between the parts (Otsu, 1979).

    Raises:
        DataError: the scores lie all between the same two thresholds, or there are none.
    """
    histogram = counts.histogram
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
    return int(np.argmax(np.cumsum(counts.steps)[:-1]))


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
