"""An MCTformer host with its initial weights: a ViT's, a host's like it, or random ones."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from aream.backbones._mctformer import MCTformer
from aream.backbones._mctformer_config import MCTformerConfig
from aream.config import PRETRAINED
from aream.networks.checkpoint import fit_state_dict, read_state_dict

log = logging.getLogger(__name__)

TRAINED_WITH = "_extra_state"
"""Key of the extra state in a state dict, as torch names it."""
Host = TypeVar("Host", bound=MCTformer)


@functools.lru_cache(maxsize=256)
def shape_of(host: type[MCTformer], config: MCTformerConfig) -> tuple[int, int]:
    """(depth, patch size) without reading weights.

    Raises:
        ConfigError: timm has no such plain ViT, or it has fewer layers than the configuration names.
    """
    with torch.device("meta"):
        built = host(config, classes=1, image_size=None)
    return built.depth, built.patch_size


def build_host(host: type[Host], config: MCTformerConfig, classes: int, image_size: int) -> Host:
    """A host with its initial weights.

    Args:
        image_size: training image side in pixels; positions are learnt for this grid when weights are random.

    Raises:
        DataError: the weight file does not fit.
    """
    pretrained = config.weights == PRETRAINED
    state = read_state_dict(config.weights, config.weights_key) if config.weights and not pretrained else None
    size = None if state is None else _trained_size(state)
    if size is not None and size != image_size:
        log.warning(
            "%s: positions learnt at %d pixels are interpolated at those of %d", config.weights, size, image_size
        )
    built = host(config, classes, image_size, pretrained=pretrained, weights_size=size)
    if config.weights is None and config.initialisation == "mimetic":
        built.initialise_mimetic()
    of_a_vit, trained_with = pretrained, None
    if state is not None and config.weights is not None:
        of_a_vit, trained_with = _of_a_vit(state), state.get(TRAINED_WITH)
        # Only a ViT may leave the head to be learnt. What a host was trained with is in files that this project wrote.
        new = (TRAINED_WITH, "head.weight", "head.bias") if of_a_vit else (TRAINED_WITH,)
        fit_state_dict(built, built.adapt(state), config.weights, new=new)
        built.trained_head = not of_a_vit or trained_with is not None  # V1's of a single class looks like a ViT's
    built.decide(config, of_a_vit=of_a_vit, trained_with=trained_with)
    return built


def _trained_size(state: Mapping[str, Tensor]) -> int | None:
    """Image side in pixels that a file's positions were learnt at; None: they say no square grid."""
    token, positions, patches = (state.get(name) for name in ("cls_token", "pos_embed", "patch_embed.proj.weight"))
    if token is None or positions is None or patches is None or not token.ndim == positions.ndim == 3:
        return None
    count = positions.shape[1] - token.shape[1] - ("dist_token" in state)
    side = math.isqrt(max(count, 0))
    return side * patches.shape[-1] if side * side == count > 0 else None


def _of_a_vit(state: Mapping[str, Tensor]) -> bool:
    """A ViT is known by its one class token, and a head that is linear if there is one."""
    token, head = state.get("cls_token"), state.get("head.weight")
    return token is not None and token.ndim == 3 and token.shape[1] == 1 and (head is None or head.ndim == 2)
