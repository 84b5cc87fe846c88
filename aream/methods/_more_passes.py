"""The passes of a host that MoRe's masks are made from: every scale, of the image and of its mirror."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from aream.backbones.protocol import Backbone, BackboneOutput
from aream.methods._label_views import scaled
from aream.methods._more_config import Config

T = TypeVar("T")


def read_passes(
    backbone: Backbone,
    images: Float[Tensor, "b 3 h w"],
    config: Config,
    read: Callable[[BackboneOutput], T],
) -> list[list[T]]:
    """What ``read`` takes of the outputs of every scale, of the image and where it is seen of its mirror.

    Nothing else of an output is kept until the next. The host is left in the mode it was in.
    """
    if config.label_mode == "online":
        return [[read(backbone(images))]]
    training = backbone.training
    backbone.eval()
    try:
        return [
            [read(backbone(view)) for view in ((seen, seen.flip(-1)) if config.label_flip else (seen,))]
            for seen in (scaled(images, scale, backbone.patch_size) for scale in config.label_scales)
        ]
    finally:
        backbone.train(training)
