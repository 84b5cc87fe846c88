"""ACR: the attention of two views of an image held together, and classes localised by gradient through attention.

Source: Sun et al., "All-pairs Consistency Learning for Weakly Supervised Semantic Segmentation", ICCV Workshops 2023.
Its network is ``backbone: {name: vit, vit: vit_base_r50_s16_384, head_kernel: 1, pooling: class_token, final_norm:
false}``; its training has ``train: {image_size: 384, warmup_epochs: 0, select: last}`` on crops of ``augmentation:
{name: scale_and_crop, long_side: [345, 438]}``; its inference ``inference: {image_size: 384, layers: all}``.

Deviates: the authors train four copies with SGD on a batch of one image each and keep one of them, since their
gradients are never averaged; maps are enlarged without aligned corners, as all maps here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float, Int64
from torch import Tensor

from aream.backbones.protocol import Backbone, BackboneOutput
from aream.cams.affinity import patch_affinity
from aream.cams.maps import refine
from aream.cams.precision import widened
from aream.config import config
from aream.engine.batches import Batch
from aream.engine.losses import classification_loss
from aream.engine.ranks import ALONE, Ranks
from aream.errors import ConfigError
from aream.layers import LayerSubset, first_deep_layer, resolve_layers
from aream.methods._attention_consistency import consistency
from aream.methods._gradient_maps import Mode, differentiable_from, gradient_maps
from aream.methods._second_view import Transform, aligned_patches, second_view
from aream.methods.protocol import FIRST, HostShape, Losses, Progress, Terms, host_maps

SUPERVISES_LAYERS = True


@config
class Config:
    view: Transform = "mirror"
    """Transform that makes the second view: mirrored (authors' code), turned by 90 degrees, or moved by whole patches,
    of which those that both views show are compared."""
    shift: tuple[int, int] = (1, 1)
    """Patches that ``translation`` moves by, down and to the right, negative up and to the left."""
    activation_weight: float = 125.0
    """Weight of the region activation consistency, >= 0. Alpha of the authors' script on VOC; on COCO, and by default,
    100."""
    affinity_weight: float = 125.0
    """Weight of the region affinity consistency, >= 0; alpha too."""
    layers: LayerSubset = "all"
    """Layers whose attention is held together."""
    layer_index: int | None = None
    """First deep layer, 0-based, where layers are named shallow or deep; null: as published for the backbone."""
    localisation: Mode | Literal["host"] = "gradient"
    """Map of a class: the mean over heads of the gradient G of its logit at the class token's attention A, where
    positive (authors: ``grad``); the same of A G (``cam_grad``); the square of the first (``grad_s``); the product
    of both (``cam_grad_s``); or, beyond the paper, the host's own CAM, which tells what the training alone is worth."""
    localisation_layers: int = 2
    """Number of the last layers that this is summed over."""
    patch_affinity: bool = False
    """Multiply the map by the patch affinity of all layers, as in the authors' script. Deviates: it is not here, where
    ``inference.layers: all`` does the same."""

    def __post_init__(self) -> None:
        for name in ("activation_weight", "affinity_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: need a weight >= 0, got {getattr(self, name)}")
        if self.shift == (0, 0):
            raise ConfigError("shift: need patches to move by, down or to the right, got none")
        if self.localisation_layers < 1:
            raise ConfigError(f"localisation_layers: need one or more, got {self.localisation_layers}")


def resolve(config: Config, depth: int) -> Config:
    """Name the layers one by one; a shift without effect is the default.

    Raises:
        ConfigError: layers that a backbone of this depth does not have.
    """
    if config.localisation_layers > depth:
        raise ConfigError(
            f"localisation_layers: need at most {depth} (the backbone's depth), got {config.localisation_layers}"
        )
    split = first_deep_layer(depth, config.layer_index)
    return dataclasses.replace(
        config,
        layer_index=None,
        layers=resolve_layers(config.layers, depth, split),
        shift=config.shift if config.view == "translation" else Config().shift,
    )


def of_training(config: Config) -> Config:
    """The same with the default way to localise, which no training depends on."""
    own = Config()
    return dataclasses.replace(
        config,
        localisation=own.localisation,
        localisation_layers=own.localisation_layers,
        patch_affinity=own.patch_affinity,
    )


def LOCALISES(config: Config) -> bool:  # noqa: N802  # a flag of the protocol
    return config.localisation != "host" or config.patch_affinity


def needs_entropy(config: Config) -> bool:
    return False


def losses(config: Config) -> tuple[str, ...]:
    return ("second_view", "activation", "affinity")


def check_host(config: Config, host: str, host_config: Any) -> None:
    """
    Raises:
        ConfigError: a backbone whose logits do not come from what its class token attends to.
    """
    if host == "vit" and config.localisation != "host" and host_config.pooling != "class_token":
        raise ConfigError(
            "method.name: acr localises by the gradient of logits that are read from the class token, it needs "
            f"backbone.pooling: class_token, or its own localisation: host; got {host_config.pooling}"
        )


def build(config: Config, entropies: Float[Tensor, " l"] | None = None, host: HostShape | None = None) -> ACR:
    """The method for a resolved configuration.

    Raises:
        ConfigError: a host without a class token, or whose images are moved by all they are.
    """
    if host is not None:
        if host.class_rows is None:
            raise ConfigError("name: acr needs a class token, which the backbone does not have")
        side = host.image_size // host.patch_size
        aligned_patches((side, side), config.view, config.shift)
    return ACR(config)


class ACR:
    network = None

    def __init__(self, config: Config) -> None:
        """Layers of ``config`` are named one by one."""
        self.config = config
        self.layers = tuple(int(layer) for layer in config.layers)

    def losses_of_parts(
        self, backbone: Backbone, parts: Sequence[Batch], ranks: Ranks = ALONE, progress: Progress = FIRST
    ) -> Sequence[Losses]:
        """The classification loss of the second view, and both consistencies of its attention with the first one's.

        Each is a mean over images. Gradients go through both views; the second one's forward pass is made with the
        losses of a part.
        """
        return [functools.partial(self._terms, backbone, part) for part in parts]

    def supervised_layers(self) -> Sequence[int]:
        return self.layers

    def localise(
        self, backbone: Backbone, images: Float[Tensor, "b 3 height width"], classes: Int64[Tensor, "b k"]
    ) -> tuple[BackboneOutput, Float[Tensor, "b k h w"]]:
        """The host's output, and the configured map of each image's classes, not normalised."""
        mode, layers = self.config.localisation, range(backbone.depth - self.config.localisation_layers, backbone.depth)
        if mode == "host":
            output, maps = host_maps(backbone, images, classes)
        else:
            output = differentiable_from(backbone, images, layers[0])
            maps = gradient_maps(output, classes, layers, mode, backbone.prefix_tokens, _class_rows(backbone))
        if self.config.patch_affinity:
            refined = [refine(maps, patch_affinity(layer, backbone.prefix_tokens)) for layer in output.layers]
            maps = sum(refined[1:], refined[0])
        return output, maps

    def _terms(self, backbone: Backbone, part: Batch, output: BackboneOutput) -> Terms:
        config, prefix_tokens = self.config, backbone.prefix_tokens
        view = backbone(second_view(part.images, config.view, config.shift, backbone.patch_size))
        *orders, shared = aligned_patches(output.grid, config.view, config.shift)
        first, second = ([each.layers[layer] for layer in self.layers] for each in (output, view))
        activation, affinity = consistency(
            first, second, (orders[0], orders[1]), shared, prefix_tokens, _class_rows(backbone)
        )
        classification = classification_loss(tuple(widened(logits) for logits in view.logits), part.labels)
        share = len(part.ids) / len(part.all_ids)
        return Terms(
            {
                "second_view": share * classification,
                "activation": config.activation_weight * share * activation,
                "affinity": config.affinity_weight * share * affinity,
            },
            classifying=frozenset({"second_view"}),
        )


def _class_rows(backbone: Backbone) -> slice:
    assert backbone.class_rows is not None  # refused where the method is built
    return backbone.class_rows
