"""The passes of a host that a method's labels are made from: every label scale, mirrored or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aream.backbones.protocol import Backbone, BackboneOutput, has_batch_norm
from aream.engine.batches import Batch
from aream.labels.training_labels import present_first
from aream.methods.protocol import Localise, host_maps

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """One pass of the host, as labels are made from it."""

    output: BackboneOutput
    maps: Float[Tensor, "b k h w"]
    """Maps of the classes of each image that :func:`aream.labels.training_labels.present_first` names."""
    mirrored: bool


@runtime_checkable
class LabelSettings(Protocol):
    """The part of a method's configuration that is read here."""

    @property
    def label_mode(self) -> Literal["eval", "train", "online"]: ...
    @property
    def label_scales(self) -> tuple[float, ...]: ...
    @property
    def label_flip(self) -> bool: ...


def label_views(
    backbone: Backbone, batch: Batch, settings: LabelSettings, localise: Localise = host_maps
) -> list[View]:
    """Return the views of every label scale, each image before its mirror."""
    classes, _ = present_first(batch.labels > 0)

    def read(sides: list[Tensor]) -> list[View]:
        if len(sides) == 2 and backbone.training and has_batch_norm(backbone):
            # Batch norm in train mode sees an image and its mirror as one batch, as in the authors' code.
            output, maps = localise(backbone, torch.cat(sides), classes.repeat(2, 1))
            return list(map(View, output.split(len(classes)), maps.split(len(classes)), (False, True)))
        return [View(*localise(backbone, side, classes), mirrored=side is not sides[0]) for side in sides]

    return [view for views in label_passes(backbone, batch.images, settings, read) for view in views]


def label_passes(
    backbone: Backbone,
    images: Float[Tensor, "b 3 h w"],
    settings: LabelSettings,
    read: Callable[[list[Tensor]], T],
) -> list[T]:
    """Return what ``read`` makes of every label scale: of the images, and after them their mirror where that is seen.

    ``read`` makes the passes, with the host in the mode of the settings; afterwards it is in the mode it was in.
    """
    if settings.label_mode == "online":
        return [read([images])]
    training = backbone.training
    backbone.train(settings.label_mode == "train")
    try:
        return [
            read([seen, seen.flip(-1)] if settings.label_flip else [seen])
            for seen in (scaled(images, scale, backbone.patch_size) for scale in settings.label_scales)
        ]
    finally:
        backbone.train(training)


def nearest_view(settings: LabelSettings) -> int:
    """Return the index of the view nearest to the training image: not mirrored, and of the scale nearest to 1."""
    scales = settings.label_scales
    nearest = min(range(len(scales)), key=lambda index: abs(scales[index] - 1))
    return nearest * (2 if settings.label_flip else 1)


def scaled(images: Float[Tensor, "b 3 h w"], scale: float, patch: int) -> Float[Tensor, "b 3 h2 w2"]:
    """Images at a scale, rounded to whole patches of ``patch`` pixels, one at least."""
    if scale == 1:
        return images
    size = [max(patch, round(side * scale / patch) * patch) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)
