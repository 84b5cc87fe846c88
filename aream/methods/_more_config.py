"""Configuration of MoRe."""

from __future__ import annotations

from typing import Literal

from aream.config import Component, added, component, config
from aream.engine.batches import check_scales
from aream.errors import ConfigError
from aream.refiners import par
from aream.refiners.protocol import refuse_network


@config
class Config:
    gcr_einsum: Literal["official", "dot"] = "official"
    """Weighing of the neighbours of a class token: by the product of two sums, which the einsum of the authors' code
    comes to, or the scalar product of neighbour and gate."""
    auxiliary_layer: int | None = None
    """0-based layer under the auxiliary classifier, before the last; null: the third from the end, 9 of 12."""
    auxiliary_weight: float = 1.0
    """Weight of the auxiliary classifier's loss; this and the next four are >= 0."""
    class_weight: float = 1.0
    """Weight of the contrast of class tokens."""
    patch_weight: float = 0.3
    """Weight of the contrast of patches."""
    certain_weight: float = 0.2
    """Weight of class tokens against the patches that are surely theirs. COCO: 0.1 in the script, 0.05 in the log."""
    uncertain_weight: float = 0.1
    """Weight of patches in uncertain regions against class tokens. COCO: 0.01 in the script, 0 in the log."""
    temperature: float = 0.5
    """Temperature of the loss of certain patches, > 0. COCO: 0.1."""
    low: float = 0.25
    """Score of the auxiliary CAM up to which a patch is background, in (0, 1)."""
    high: float = 0.7
    """Score above which it is surely of a class, in [low, 1). COCO: 0.65."""
    certain_high: float = 0.5
    """Score above which it is surely of a class, for the loss of certain patches, in [low, 1)."""
    main_low: float = 0.35
    """Score of the main CAM up to which a patch is background, in (0, 1)."""
    main_high: float = 0.6
    """Score of the main CAM above which a patch is surely of a class, in [main_low, 1)."""
    main_start: float = 0.5
    """Share of the training after which certain and uncertain patches are those of the main CAM, in [0, 1]. COCO: 0.625
    (step 50 000 of 80 000). Pairs of patches are those of the auxiliary CAM to the end."""
    patch_start: float = 0.0
    """Share after which the contrast of patches begins; 0: at once. COCO: 0.1."""
    region_start: float = 0.0
    """Share after which the losses of certain and uncertain patches begin. COCO: 0.15."""
    label_mode: Literal["eval", "online"] = "eval"
    """Pass that makes the CAMs behind the masks: one without gradient for every scale and mirror, as published (8.1
    image passes beside the 3 of a training step), or the training pass itself."""
    label_scales: tuple[float, ...] = (1.0, 0.5, 0.75, 1.5)
    """Scales summed into these CAMs; ``online`` has the training image alone. COCO: 1, 0.5, 0.75, 1.25, 1.5."""
    label_flip: bool = True
    """Show the host the mirrored image too; of the two values the larger counts."""
    segment: bool = added(False)
    """Train a decoder to segment beside the CAMs (single-stage); ``analyses: [segmentation_head]`` scores it. Its
    labels are AFA's, of the main CAM between ``low`` and ``high``."""
    segment_weight: float = added(0.12)
    """Weight of its loss, >= 0."""
    segment_start: float = added(0.1)
    """Share of the training after which that begins, in [0, 1]. COCO: 0.2."""
    segment_channels: int = added(512)
    """Channels of its hidden layers."""
    segment_refiner: Component = component("aream.refiners", Component(name="par", config=par.Config()), added=True)
    """Makes its labels follow the image's edges."""

    def __post_init__(self) -> None:
        for low, high in (("low", "high"), ("low", "certain_high"), ("main_low", "main_high")):
            if not 0 < getattr(self, low) <= getattr(self, high) < 1:
                raise ConfigError(
                    f"{low}, {high}: need 0 < {low} <= {high} < 1, got {getattr(self, low)} and {getattr(self, high)}"
                )
        for name in (
            "auxiliary_weight", "class_weight", "patch_weight", "certain_weight", "uncertain_weight", "segment_weight"
        ):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: need a weight >= 0, got {getattr(self, name)}")
        for name in ("main_start", "patch_start", "region_start", "segment_start"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: need a share of the training in 0..1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature: need a number > 0, got {self.temperature}")
        if self.segment_channels < 1:
            raise ConfigError(f"segment_channels: need one or more, got {self.segment_channels}")
        check_scales("label_scales", self.label_scales)
        refuse_network(self.segment_refiner)
