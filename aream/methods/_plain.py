"""A method without losses of its own: the host learns from image labels alone, after the warm-up as in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from aream.backbones.protocol import Backbone
from aream.config import config
from aream.engine.batches import Batch
from aream.engine.ranks import ALONE, Ranks
from aream.layers import first_deep_layer
from aream.methods.protocol import FIRST, HostShape, Losses, Progress, Terms


@config
class Config:
    layer_index: int | None = None
    """First deep layer, read only where inference names shallow or deep layers; null: the backbone's published split,
    scaled to the depth."""


def resolve(config: Config, depth: int) -> Config:
    """Training does not depend on the split."""
    first_deep_layer(depth, config.layer_index)
    return dataclasses.replace(config, layer_index=None)


def needs_entropy(config: Config) -> bool:
    return False


def build(config: Config, entropies: Float[Tensor, " l"] | None = None, host: HostShape | None = None) -> PlainHost:
    return PlainHost()


class PlainHost:
    network = None

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        return [lambda output: Terms({}) for _ in parts]

    def supervised_layers(self) -> Sequence[int]:
        return ()
