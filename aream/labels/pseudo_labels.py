"""From refined CAMs to pseudo-label maps: which pixels are background, by a threshold and the rule that set it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aream.config import Component, component, config
from aream.data.evidence import is_held_out
from aream.errors import ConfigError, DataError
from aream.labels import label_free
from aream.labels.thresholds import BINS, ScoreLevels, ThresholdCounts
from aream.metrics import class_iou, counted_classes, mean_iou
from aream.refiners import none

ThresholdRule = Literal["auto", "held_out", "otsu", "edges"]

RULE_DESCRIPTIONS = {
    "auto": "searched on train ground truth",
    "held_out": "searched on a held-out fifth of the train ground truth, scored on the rest",
    **{name: f"label-free ({rule.description})" for name, rule in label_free.RULES.items()},
    "fixed": "label-free (fixed)",
}
SEARCHED = ("auto", "held_out")
"""Rules that need train masks."""
WITHOUT_MASKS = f"labels.background_threshold {', '.join(label_free.RULES)} or a number needs no masks"
APART = 2 / BINS
"""Least distance of the thresholds counted."""


@config
class LabelsConfig:
    refiner: Component = component("aream.refiners", Component(name="none", config=none.Config()))
    """Makes the final CAMs follow the image's edges before the threshold."""
    background_threshold: ThresholdRule | float = "auto"
    """``auto``: best mIoU on the train masks (the field's habit); ``held_out``: best on a fifth of them, scored on the
    rest; ``otsu``, ``edges`` (aream/labels/label_free.py) or a number in (0, 1): no ground truth used."""
    thresholds: tuple[float, float, float] = (0.01, 0.79, 0.01)
    """First, last and step of the search (AReAM's authors)."""
    absent_classes: Literal["skip", "zero"] = "skip"
    """How classes without a pixel in the ground truth count in the mIoU: left out (AFA) or as 0 (MCTformer)."""

    def __post_init__(self) -> None:
        value = self.background_threshold
        if isinstance(value, float | int) and not 0 < value < 1:
            allowed = ", ".join(get_args(ThresholdRule))
            raise ConfigError(f"background_threshold: need a number in (0, 1) or {allowed}; got {value}")
        first, last, step = self.thresholds
        if not (0 <= first <= last < 1 and step > 0 and (last - first) / step < 250):
            raise ConfigError(
                "thresholds: need 0 <= first <= last < 1 and at most 250 steps of a positive size, "
                f"got {list(self.thresholds)}"
            )

    @property
    def rule(self) -> str:
        return self.background_threshold if isinstance(self.background_threshold, str) else "fixed"

    def grid(self) -> Float64[np.ndarray, " t"]:
        """The thresholds to count, ascending: those of the search, and the given one among them."""
        first, last, step = self.thresholds
        searched = np.round(first + step * np.arange(round((last - first) / step) + 1), 6)
        if isinstance(self.background_threshold, str):
            return searched
        apart = searched[np.abs(searched - self.background_threshold) >= APART]
        return np.sort(np.append(apart, self.background_threshold))


@dataclass(frozen=True)
class LevelMap:
    """An image's strongest class and how many thresholds its score exceeds: a label map for every threshold."""

    classes: UInt8[np.ndarray, "h w"]
    levels: UInt8[np.ndarray, "h w"]

    @classmethod
    def of(cls, scores: Float32[np.ndarray, "k h w"], class_ids: Sequence[int], levels: ScoreLevels) -> LevelMap:
        """``class_ids`` are mask ids of the k channels; without a channel everything is background."""
        if len(class_ids) == 0:
            empty = np.zeros(scores.shape[1:], dtype=np.uint8)
            return cls(empty, empty)
        strongest = np.asarray(class_ids, dtype=np.uint8)[scores.argmax(axis=0)]
        return cls(strongest, levels(scores.max(axis=0)))

    def labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The label map at threshold ``index``: a class where its score is above it, else background."""
        return np.where(self.levels > index, self.classes, np.uint8(0))


@dataclass(frozen=True)
class ThresholdChoice:
    index: int
    threshold: float
    miou: float | None
    """Over the dataset's scored classes; None where no image has a mask, as for all that is made of masks."""
    miou_all: float | None
    """Over all classes."""
    classes: int
    """Scored classes that have a pixel in the masks."""
    class_iou: list[float | None]
    """Per mask id; None where a class is in neither the ground truth nor the prediction."""
    thresholds: list[float]
    curve: list[float]
    """mIoU over the scored classes at every threshold, on the images the figure is made from; empty without masks."""
    label_free: dict[str, int]
    """Index of the threshold that each rule without ground truth picks, whichever rule is used; without those that
    have nothing to pick by."""

    def alternatives(self) -> dict[str, float]:
        """mIoU by rule: ``search`` (the best of the curve) and the label-free ones."""
        if not self.curve:
            return {}
        return {"search": max(self.curve)} | {rule: self.curve[index] for rule, index in self.label_free.items()}


class ThresholdSearch:
    """Counts every threshold in one pass over the images, then applies the rule."""

    def __init__(self, config: LabelsConfig, classes: int, scored: Sequence[int]) -> None:
        """``classes`` counts the background; ``scored`` are the mask ids of the headline mIoU."""
        self.config, self.scored = config, list(scored)
        self.thresholds = config.grid()
        self.searched = ThresholdCounts(classes, self.thresholds)
        self.reported = ThresholdCounts(classes, self.thresholds)
        self.levels = ScoreLevels(self.thresholds.astype(np.float32))
        self.split = label_free.SplitCounts(len(self.thresholds))
        self.masks = 0
        """Images that have one."""

    def add(
        self,
        image_id: str,
        scores: Float32[np.ndarray, "k h w"],
        class_ids: Sequence[int],
        mask: UInt8[np.ndarray, "h w"] | None,
        contrast: label_free.Contrast | None = None,
    ) -> LevelMap:
        """Count one image; ``mask`` None counts for the label-free rules only.

        Args:
            contrast: of the image, for the rule ``edges``.
        """
        level_map = LevelMap.of(scores, class_ids, self.levels)
        if len(class_ids) > 0:
            self.split.add(level_map.levels, contrast)
        if mask is not None:
            self.masks += 1
            held_out = self.config.rule == "held_out" and is_held_out(image_id)
            counts = self.searched if held_out else self.reported
            counts.add_levels(level_map.classes, level_map.levels, mask)
        return level_map

    def choose(self) -> ThresholdChoice:
        """The threshold by the configured rule, and the mIoU there on the images that did not set it (``held_out``)
        or on all that have masks.

        Raises:
            DataError: the rule has nothing to choose by, or the masks have nothing to take a mean of.
        """
        confusions = self.reported.confusions()
        picked = label_free.choices(self.split)
        curve = self._curve(self.reported) if self.masks or self.config.rule in SEARCHED else []
        index = self._index(curve)
        ious = class_iou(confusions[index])
        return ThresholdChoice(
            index=index,
            threshold=float(self.thresholds[index]),
            miou=curve[index] if curve else None,
            miou_all=mean_iou(confusions[index], None, self.config.absent_classes) if curve else None,
            classes=counted_classes(confusions[index], self.scored),
            class_iou=[None if np.isnan(value) else float(value) for value in ious],
            thresholds=[float(value) for value in self.thresholds],
            curve=curve,
            label_free=picked,
        )

    def _curve(self, counts: ThresholdCounts) -> list[float]:
        try:
            return [mean_iou(one, self.scored, self.config.absent_classes) for one in counts.confusions()]
        except DataError as error:
            part = " held-out" if counts is self.searched else ""
            raise DataError(f"the{part} train masks cannot tell a threshold: {error}; {WITHOUT_MASKS}") from error

    def _index(self, curve: list[float]) -> int:
        rule = self.config.rule
        if rule in label_free.RULES:
            return label_free.RULES[rule].choose(self.split)
        if rule in SEARCHED:
            return int(np.argmax(curve if rule == "auto" else self._curve(self.searched)))
        return int(np.argmin(np.abs(self.thresholds - float(self.config.background_threshold))))
