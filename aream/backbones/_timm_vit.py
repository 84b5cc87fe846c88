"""Building a plain timm ViT by name and running its blocks while keeping queries and keys."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from aream.backbones._timm_transformer import FAILURES, not_built
from aream.backbones.protocol import COMPILED_BY
from aream.cams.affinity import LayerQK
from aream.errors import ConfigError
from aream.networks.timm_names import architecture, check_tag


@functools.cache
def plain_vit_names() -> frozenset[str]:
    """Names of timm's VisionTransformer module and of DeiT's, which builds the same class."""
    return frozenset(timm.list_models(module="vision_transformer") + timm.list_models(module="deit"))


def create_vit(name: str, *, pretrained: bool = False, **changes: Any) -> VisionTransformer:
    """A ViT with one class token, learnt positions and standard pre-norm blocks.

    Raises:
        ConfigError: timm has no such ViT, it is not a plain one, or it cannot be built with the changes.
        DataError: pretrained weights were asked for and timm's hub cannot be reached.
    """
    if architecture(name) not in plain_vit_names():
        raise ConfigError(
            f"vit: timm has no plain ViT {name!r}; try vit_tiny_patch16_224, deit_tiny_patch16_224, "
            "deit_small_patch16_224 or deit_base_patch16_224"
        )
    check_tag("vit", name)
    try:
        vit = timm.create_model(name, pretrained=pretrained, num_classes=0, **changes)
    except (OSError, *FAILURES) as error:
        raise not_built(name, changes, error, pretrained=pretrained) from error
    plain = (
        isinstance(vit, VisionTransformer)
        and vit.num_prefix_tokens == 1
        and vit.cls_token is not None
        and not vit.no_embed_class
        and isinstance(vit.norm_pre, torch.nn.Identity)
        and all(type(block) is Block and _is_plain(block.attn) for block in vit.blocks)
    )
    if not plain:
        raise ConfigError(
            f"vit: {name} is not a plain ViT: the host needs one class token, a position for it, no register tokens, "
            "no norm before the blocks and standard blocks"
        )
    return vit


def _is_plain(attention: torch.nn.Module) -> bool:
    return type(attention) is Attention and attention.gate is None


def run_block(
    block: Block, tokens: Float[Tensor, "b tokens dim"], bias: Float[Tensor, "#b #heads #tokens tokens"] | None = None
) -> tuple[Float[Tensor, "b tokens dim"], LayerQK]:
    """One pre-norm transformer block; attention is fused, its queries and keys are handed out.

    Args:
        bias: added to the scaled logits before the softmax.
    """
    compiler = vars(block).get(COMPILED_BY)
    return (_run if compiler is None else _compiled_run(compiler))(block, tokens, bias)


Run = Callable[[Block, Tensor, Tensor | None], tuple[Tensor, LayerQK]]


@functools.cache
def _compiled_run(compiler: Callable[[Run], Run]) -> Run:
    """One for all blocks that it compiles."""
    return compiler(_run)


def _run(block: Block, tokens: Tensor, bias: Tensor | None) -> tuple[Tensor, LayerQK]:
    attended, layer = _attend(block.attn, block.norm1(tokens), bias)
    tokens = tokens + block.drop_path1(block.ls1(attended))
    tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return tokens, layer


def _attend(
    attention: Attention, tokens: Float[Tensor, "b tokens dim"], bias: Tensor | None
) -> tuple[Float[Tensor, "b tokens dim"], LayerQK]:
    b, count, _ = tokens.shape
    qkv = attention.qkv(tokens).reshape(b, count, 3, attention.num_heads, attention.head_dim)
    queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    dropout = attention.attn_drop.p if attention.training else 0.0
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=dropout)
    mixed = attention.norm(attended.transpose(1, 2).reshape(b, count, attention.attn_dim))
    return attention.proj_drop(attention.proj(mixed)), LayerQK(queries, keys, bias, values, attended)
