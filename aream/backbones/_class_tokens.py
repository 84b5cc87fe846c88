"""Class tokens and registers of a plain ViT: copies of the one class token that its weights know.

Source: one token a class, Xu et al., CVPR 2022 (MCTformer); with registers in front, Yang et al., AAAI 2025 (MoRe).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from aream.errors import ConfigError


@torch.no_grad()
def copy_class_token(vit: Any, name: str, count: int, registers: int) -> None:
    """Give a transformer ``count`` class tokens and after them ``registers``, all copies of its class token.

    Class tokens keep its position; those of registers are random, of a normal distribution of deviation 1 that is cut
    at 2, about fifty times the size of others, as MoRe has them.

    Deviates from MoRe's code by the order of the tokens, which no attention sees: registers come first there.

    Raises:
        ConfigError: it is no plain ViT, or has not just one token with a position before its patches.
    """
    token, positions = getattr(vit, "cls_token", None), getattr(vit, "pos_embed", None)
    plain = type(vit) is VisionTransformer and vit.num_prefix_tokens == 1 and not vit.no_embed_class
    if not plain or token is None or positions is None:
        raise ConfigError(
            f"class_tokens, registers: copies are made of one class token that has a position, as ViT, DeiT, DINO, "
            f"DINOv2 without registers and CLIP have it, and {name} has not; need class_tokens: one, registers: 0"
        )
    shape = (1, registers, token.shape[2])
    random = nn.init.trunc_normal_(positions.new_empty(shape), std=1.0, a=-2.0, b=2.0)
    _place(vit, token.repeat(1, count, 1), token.repeat(1, registers, 1))
    vit.pos_embed = nn.Parameter(torch.cat([positions[:, :1].repeat(1, count, 1), random, positions[:, 1:]], dim=1))


def towards_copies(copies: int, like: Tensor, tokens: int) -> Float[Tensor, "1 1 1 tokens"] | None:
    """What attention logits towards the first ``copies`` of ``tokens`` tokens are lessened by, so that together they
    weigh what one weighs: the logarithm of their number; None for a single one.
    """
    if copies == 1:
        return None
    bias = like.new_zeros(1, 1, 1, tokens)
    bias[..., :copies] = -math.log(copies)
    return bias


@torch.no_grad()
def drop_copies(vit: Any) -> None:
    """Undo :func:`copy_class_token`, so that weights of a plain ViT can be read."""
    positions = vit.pos_embed
    single = torch.cat([positions[:, :1], positions[:, vit.num_prefix_tokens :]], dim=1)
    _place(vit, vit.cls_token[:, :1].clone(), vit.cls_token[:, :0])
    vit.pos_embed = nn.Parameter(single)


def _place(vit: Any, class_tokens: Tensor, registers: Tensor) -> None:
    vit.cls_token = nn.Parameter(class_tokens)
    vit.reg_token = nn.Parameter(registers) if registers.shape[1] else None
    vit.num_reg_tokens = registers.shape[1]
    vit.num_prefix_tokens = class_tokens.shape[1] + registers.shape[1]
