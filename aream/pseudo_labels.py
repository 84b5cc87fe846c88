"""From refined CAMs to pseudo-label maps: which pixels are background, by a threshold and the rule that set it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from aream import label_free
from aream.config import Component, component, config
from aream.errors import ConfigError
from aream.metrics import class_iou, mean_iou
from aream.refiners import none
from aream.thresholds import BINS, ScoreLevels, ThresholdCounts

ThresholdRule = Literal["auto", "held_out", "otsu", "edges"]

RULE_DESCRIPTIONS = {
    "auto": "searched on train ground truth",
    "held_out": "searched on a held-out fifth of the train ground truth, scored on the rest",
    **{name: f"label-free ({rule.description})" for name, rule in label_free.RULES.items()},
    "fixed": "label-free (fixed)",
}
APART = 2 / BINS
"""Least distance of the thresholds counted."""


@config
class LabelsConfig:
    refiner: Component = component("aream.refiners", Component(name="none", config=none.Config()))
    """Makes the final CAMs follow the image's edges before the threshold."""
    background_threshold: ThresholdRule | float = "auto"
    """``auto``: best mIoU on the train masks (the field's habit); ``held_out``: best on a fifth of them, scored on the
    rest; ``otsu``, ``edges`` (aream/label_free.py) or a number in (0, 1): no ground truth used."""
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
    miou: float
    """Over the dataset's scored classes."""
    miou_all: float
    """Over all classes."""
    class_iou: list[float | None]
    """Per mask id; None where a class is in neither the ground truth nor the prediction."""
    thresholds: list[float]
    curve: list[float]
    """mIoU over the scored classes at every threshold, on the images the figure is made from."""
    label_free: dict[str, int]
    """Index of the threshold that each rule without ground truth picks, whichever rule is used."""

    def alternatives(self) -> dict[str, float]:
        """mIoU by rule: ``search`` (the best of the curve) and the label-free ones."""
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
            held_out = self.config.rule == "held_out" and _held_out(image_id)
            counts = self.searched if held_out else self.reported
            counts.add_levels(level_map.classes, level_map.levels, mask)
        return level_map

    def choose(self) -> ThresholdChoice:
        """The threshold by the configured rule, and the mIoU there on the images that did not set it (``held_out``)
        or on all that have masks."""
        confusions = self.reported.confusions()
        absent = self.config.absent_classes
        curve = [mean_iou(confusion, self.scored, absent) for confusion in confusions]
        picked = label_free.choices(self.split)
        index = self._index(curve, picked)
        ious = class_iou(confusions[index])
        return ThresholdChoice(
            index=index,
            threshold=float(self.thresholds[index]),
            miou=curve[index],
            miou_all=mean_iou(confusions[index], None, absent),
            class_iou=[None if np.isnan(value) else float(value) for value in ious],
            thresholds=[float(value) for value in self.thresholds],
            curve=curve,
            label_free=picked,
        )

    def _index(self, curve: list[float], picked: Mapping[str, int]) -> int:
        rule = self.config.rule
        if rule == "auto":
            return int(np.argmax(curve))
        if rule == "held_out":
            held_out = [
                mean_iou(confusion, self.scored, self.config.absent_classes) for confusion in self.searched.confusions()
            ]
            return int(np.argmax(held_out))
        if rule in picked:
            return picked[rule]
        return int(np.argmin(np.abs(self.thresholds - float(self.config.background_threshold))))


def _held_out(image_id: str) -> bool:
    """One image in five, the same ones whatever the list's order."""
    return hashlib.sha256(image_id.encode()).digest()[0] % 5 == 0
