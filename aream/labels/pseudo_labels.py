"""From refined CAMs to pseudo-label maps: which pixels are background, by a threshold and the rule that set it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from aream.config import Component, component, config
from aream.data.evidence import is_held_out
from aream.errors import ConfigError, DataError
from aream.labels import label_free
from aream.labels.thresholds import BINS, CPU, ScoreLevels, ThresholdCounts, bins_of
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
    """First, last and step of the search (AReAM's authors); the number of steps is rounded."""
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
        bins_of(self.grid().astype(np.float32))

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

    classes: UInt8[Tensor, "h w"]
    levels: UInt8[Tensor, "h w"]

    @classmethod
    def of(cls, scores: Float32[Tensor, "k h w"], class_ids: Sequence[int], levels: ScoreLevels) -> LevelMap:
        """``class_ids`` are mask ids of the k channels, the first wins ties; without a channel all is background."""
        if len(class_ids) == 0:
            empty = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
            return cls(empty, empty)
        highest, strongest = scores.max(dim=0)
        return cls(torch.tensor(class_ids, dtype=torch.uint8, device=scores.device)[strongest], levels(highest))

    def labels(self, index: int) -> UInt8[Tensor, "h w"]:
        """The label map at threshold ``index``: a class where its score is above it, else background."""
        return self.classes * (self.levels > index)


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
    """Counts every threshold of a grid in one pass over the images; rules choose afterwards, as many as there are."""

    def __init__(self, thresholds: Float64[np.ndarray, " t"], classes: int, device: torch.device = CPU) -> None:
        """``thresholds`` are a ``LabelsConfig.grid``; ``classes`` counts the background; scores come on ``device``."""
        self.thresholds = thresholds
        self.held_out = ThresholdCounts(classes, len(thresholds), device)
        self.rest = ThresholdCounts(classes, len(thresholds), device)
        self.levels = ScoreLevels(thresholds.astype(np.float32), device)
        self.split = label_free.SplitCounts(len(thresholds), device)
        self.masks = 0
        """Images that have one."""

    def add(
        self,
        image_id: str,
        scores: Float32[Tensor, "k h w"],
        class_ids: Sequence[int],
        mask: UInt8[Tensor, "h w"] | None,
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
            counts = self.held_out if is_held_out(image_id) else self.rest
            counts.add(level_map.classes, level_map.levels, mask)
        return level_map

    def choose(self, config: LabelsConfig, scored: Sequence[int]) -> ThresholdChoice:
        """The threshold by the configured rule, and the mIoU there on the images that did not set it (``held_out``)
        or on all that have masks.

        Args:
            config: with the grid that was counted.
            scored: mask ids of the headline mIoU.

        Raises:
            DataError: the rule has nothing to choose by, or the masks have nothing to take a mean of.
        """

        def curve_of(confusions: Int64[np.ndarray, "t k k"], part: str = "") -> list[float]:
            try:
                return [mean_iou(one, scored, config.absent_classes) for one in confusions]
            except DataError as error:
                words = f"the{part} train masks cannot tell a threshold: {error}; {WITHOUT_MASKS}"
                raise DataError(words) from error

        rule = config.rule
        held_out, confusions = self.held_out.confusions(), self.rest.confusions()
        if rule != "held_out":
            confusions = confusions + held_out
        curve = curve_of(confusions) if self.masks or rule in SEARCHED else []
        if rule in label_free.RULES:
            index = label_free.RULES[rule].choose(self.split)
        elif rule in SEARCHED:
            index = int(np.argmax(curve if rule == "auto" else curve_of(held_out, " held-out")))
        else:
            index = int(np.argmin(np.abs(self.thresholds - float(config.background_threshold))))
        ious = class_iou(confusions[index])
        return ThresholdChoice(
            index=index,
            threshold=float(self.thresholds[index]),
            miou=curve[index] if curve else None,
            miou_all=mean_iou(confusions[index], None, config.absent_classes) if curve else None,
            classes=counted_classes(confusions[index], list(scored)),
            class_iou=[None if np.isnan(value) else float(value) for value in ious],
            thresholds=[float(value) for value in self.thresholds],
            curve=curve,
            label_free=label_free.choices(self.split),
        )
