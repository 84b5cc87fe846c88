"""Configuration of one trial: the frozen sections of a sweep file at one point of its axes."""

from __future__ import annotations

from typing import Literal

from aream.backbones import mctformer_v2
from aream.backbones.protocol import Padding
from aream.config import Component, component, config, location
from aream.datasets import shapes
from aream.errors import ConfigError
from aream.infer import CamInference
from aream.labels.pseudo_labels import LabelsConfig
from aream.layers import LayerSubset
from aream.methods import aream as aream_method
from aream.segmentation.config import SegmentationEvaluation, SegmentationTraining
from aream.segmenters import deeplab
from aream.train_config import TrainConfig


@config
class InferenceSection:
    layers: LayerSubset | Literal["none"] = "all"
    """Layers whose mean affinity refines the final CAM (AReAM: all); none: the CAM as the host makes it."""
    image_size: int | None = None
    """Side of the square that images are resized to, pixels; null: native size, padded to whole patches."""
    scales: tuple[float, ...] = (1.0,)
    """Scales summed into the CAM."""
    flip: bool = True
    """True to sum the CAM of the mirrored image too."""
    padding: Padding | None = None
    """Padding of images at native size: ``before_flip`` (AReAM on Conformer) or ``after_flip`` (on MCTformer);
    null: as published for the backbone."""

    def __post_init__(self) -> None:
        self.cams()

    def cams(self) -> CamInference:
        """The part that asks for its own forward passes; layer subsets are all read from one."""
        return CamInference(image_size=self.image_size, scales=self.scales, flip=self.flip, padding=self.padding)


@config
class TrialConfig:
    """One point of a sweep. Each component names a module of its package."""

    data: Component = component("aream.datasets", Component(name="shapes", config=shapes.Config()))
    backbone: Component = component("aream.backbones", Component(name="mctformer_v2", config=mctformer_v2.Config()))
    method: Component = component("aream.methods", Component(name="aream", config=aream_method.Config()))
    train: TrainConfig = TrainConfig()
    inference: InferenceSection = InferenceSection()
    labels: LabelsConfig = LabelsConfig()
    seed: int = 0


@config
class Selection:
    top: int = 1
    """Number of best ranked variants that train a segmenter, each at every seed of the sweep."""
    of_each: tuple[str, ...] = ()
    """Keys such as ``method.name``: the best ``top`` of every combination of their values, so that a segmenter tells
    methods or backbones apart; none: of the whole ranking."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ConfigError(f"top: need a positive number, got {self.top}")
        if len(set(self.of_each)) < len(self.of_each):
            raise ConfigError(f"of_each: need different keys, got {list(self.of_each)}")


@config
class SegmentationConfig:
    """The downstream job at one point of its axes."""

    model: Component = component("aream.segmenters", Component(name="deeplab", config=deeplab.Config()))
    train: SegmentationTraining = SegmentationTraining()
    evaluate: SegmentationEvaluation = SegmentationEvaluation()
    select: Selection = Selection()
    labels: str | None = location(None)
    """A folder of pseudo-label PNGs made elsewhere, used instead of the selected ones; null: the sweep's own."""
