"""The outputs of a host that AReAM's labels are made from: every label scale, mirrored or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.protocol import Backbone, BackboneOutput, has_batch_norm
from aream.engine.batches import Batch
from aream.labels.training_labels import present_first
from aream.methods.protocol import Localise, host_maps


@dataclass(frozen=True)
class View:
    """What labels are made from."""

    output: BackboneOutput
    maps: Float[Tensor, "b k h w"]
    """Of the classes of each image that :func:`aream.labels.training_labels.present_first` names."""
    mirrored: bool


@runtime_checkable
class LabelSettings(Protocol):
    """The part of AReAM's configuration that is read here."""

    @property
    def label_mode(self) -> Literal["eval", "train", "online"]: ...
    @property
    def label_scales(self) -> tuple[float, ...]: ...
    @property
    def label_flip(self) -> bool: ...


def label_views(
    backbone: Backbone, batch: Batch, settings: LabelSettings, localise: Localise = host_maps
) -> list[View]:
    """Those of every label scale. The host is left in the mode it was in."""
    classes, _ = present_first(batch.labels > 0)
    if settings.label_mode == "online":
        return [View(*localise(backbone, batch.images, classes), mirrored=False)]
    views: list[View] = []
    training = backbone.training
    backbone.train(settings.label_mode == "train")
    # Batch norm in train mode sees an image and its mirror as one batch, as in the authors' code.
    together = backbone.training and settings.label_flip and has_batch_norm(backbone)
    try:
        for scale in settings.label_scales:
            images = scaled(batch.images, scale, backbone.patch_size)
            if together:
                output, maps = localise(backbone, torch.cat([images, images.flip(-1)]), classes.repeat(2, 1))
                views += map(View, output.split(len(images)), maps.split(len(images)), (False, True))
                continue
            for mirrored in (False, True) if settings.label_flip else (False,):
                seen = images.flip(-1) if mirrored else images
                views.append(View(*localise(backbone, seen, classes), mirrored))
    finally:
        backbone.train(training)
    return views


def nearest_view(settings: LabelSettings) -> int:
    """Which of the views is nearest to the training image: not mirrored, and of the scale nearest to 1."""
    scales = settings.label_scales
    nearest = min(range(len(scales)), key=lambda index: abs(scales[index] - 1))
    return nearest * (2 if settings.label_flip else 1)


def scaled(images: Float[Tensor, "b 3 h w"], scale: float, patch: int) -> Float[Tensor, "b 3 h2 w2"]:
    """Images at a scale, rounded to whole patches of ``patch`` pixels, one at least."""
    if scale == 1:
        return images
    size = [max(patch, round(side * scale / patch) * patch) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
