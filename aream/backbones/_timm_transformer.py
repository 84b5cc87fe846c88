"""Building any timm transformer whose attention is global, and saying why another network is none."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from aream.data.files import reason, unreadable
from aream.errors import AreamError, ConfigError
from aream.networks.timm_names import architecture, check_tag

NEEDED = ("forward_intermediates", "num_prefix_tokens", "patch_embed", "blocks", "norm", "fc_norm")
FAILURES = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError)
"""Errors that timm's constructors and networks raise at settings and sizes that they cannot take."""
ALLOWED = (
    "allowed are timm's transformers with global attention at any image size: ViT, DeiT, DeiT-3, DINOv2, CLIP and "
    "SigLIP (vit_*, deit*), their hybrids (vit_*_r50_*), EVA-02 (eva02_*) and DINOv3 (vit_*_dinov3)"
)


def create_transformer(name: str, *, pretrained: bool, image_size: int | None, **changes: Any) -> Any:
    """A timm transformer without its classifier, its attention fused.

    Args:
        name: with or without the tag of published weights.
        image_size: side in pixels that positions are made for, and those of ``pretrained`` weights brought to; None:
            the model's own.
        changes: arguments of the model's class.

    Raises:
        ConfigError: timm has no such model, it is another kind of network, or it cannot be built with the changes.
        DataError: pretrained weights were asked for and timm's hub cannot be reached.
    """
    plain = architecture(name)
    if not timm.is_model(plain):
        near = difflib.get_close_matches(plain, timm.list_models(), n=4, cutoff=0.5)
        known = f"; near are {', '.join(near)}" if near else ""
        raise ConfigError(f"vit: timm has no model {plain!r}{known}")
    check_tag("vit", name)
    if image_size is not None:
        changes["img_size"] = image_size
    try:
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **changes)
    except (OSError, *FAILURES) as error:
        refuse_other_networks(plain)
        raise not_built(name, changes, error, pretrained=pretrained) from error
    _refuse(plain, vit)
    if getattr(vit, "attn_pool", None) is not None:
        vit.attn_pool = None  # pools tokens for a classifier that is not there
    for part in vit.blocks.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = True  # whatever TIMM_FUSED_ATTN says: queries and keys are read where it is called
    return vit


def not_built(name: str, changes: Mapping[str, Any], error: Exception, *, pretrained: bool) -> AreamError:
    """What a sweep is told of an error that timm raised."""
    if pretrained:
        words = f"cannot be fetched from timm's hub, or do not fit ({reason(error)}); give a local file"
        return unreadable(f"weights of {name}", error, f"{words} in backbone.weights")
    given = ", ".join(f"{key}={value}" for key, value in changes.items())
    return ConfigError(f"vit: timm cannot build {name} with {given}: {reason(error)}")


def check_published(name: str) -> None:
    """
    Raises:
        ConfigError: timm has no weights of this model to fetch.
    """
    if not timm.list_pretrained(f"{architecture(name)}.*"):
        raise ConfigError(f"weights: timm has no published weights of {name}; need a weight file or null")


@functools.cache
def refuse_other_networks(plain: str) -> None:
    """
    Raises:
        ConfigError: timm's model of this name is none that :func:`create_transformer` builds, and what it is instead.
    """
    try:
        with torch.device("meta"):
            model = timm.create_model(plain, num_classes=0)
    except (OSError, *FAILURES) as error:
        raise ConfigError(f"vit: {plain} is no transformer that can be built without weights; {ALLOWED}") from error
    _refuse(plain, model)


def _refuse(plain: str, model: nn.Module) -> None:
    kind = type(model)
    if any(not hasattr(model, part) for part in NEEDED):
        found = "no stack of blocks over patches and prefix tokens"
    elif all("dynamic_img_size" not in inspect.signature(base).parameters for base in kind.__mro__[:-1]):
        found = "made for images of one size, while CAMs are of images of any"
    else:
        return
    raise ConfigError(f"vit: {plain} is a {kind.__name__}, {found}; {ALLOWED}")
