"""The outputs of a host that AReAM's labels are made from: every label scale, mirrored or not."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.protocol import Backbone, BackboneOutput, has_batch_norm
from aream.engine.batches import Batch

Views = tuple[list[BackboneOutput], list[bool]]
"""Outputs that labels are made from, and which of them are of mirrored images."""


@runtime_checkable
class LabelSettings(Protocol):
    """The part of AReAM's configuration that is read here."""

    @property
    def label_mode(self) -> Literal["eval", "train", "online"]: ...
    @property
    def label_scales(self) -> tuple[float, ...]: ...
    @property
    def label_flip(self) -> bool: ...


def label_views(backbone: Backbone, batch: Batch, settings: LabelSettings) -> Views:
    """Outputs at every label scale, and whether to mirror them back. The host is left in the mode it was in."""
    if settings.label_mode == "online":
        return [backbone(batch.images)], [False]
    views, restore, training = [], [], backbone.training
    backbone.train(settings.label_mode == "train")
    # Batch norm in train mode sees an image and its mirror as one batch, as in the authors' code.
    together = backbone.training and settings.label_flip and has_batch_norm(backbone)
    try:
        for scale in settings.label_scales:
            images = _scaled(batch.images, scale, backbone.patch_size)
            if together:
                views += backbone(torch.cat([images, images.flip(-1)])).split(len(images))
                restore += [False, True]
                continue
            for flipped in (False, True) if settings.label_flip else (False,):
                views.append(backbone(images.flip(-1) if flipped else images))
                restore.append(flipped)
    finally:
        backbone.train(training)
    return views, restore


def nearest_view(settings: LabelSettings) -> int:
    """Which of the views is nearest to the training image: not mirrored, and of the scale nearest to 1."""
    scales = settings.label_scales
    nearest = min(range(len(scales)), key=lambda index: abs(scales[index] - 1))
    return nearest * (2 if settings.label_flip else 1)


def _scaled(images: Float[Tensor, "b 3 h w"], scale: float, patch: int) -> Float[Tensor, "b 3 h2 w2"]:
    if scale == 1:
        return images
    size = [max(patch, round(side * scale / patch) * patch) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
