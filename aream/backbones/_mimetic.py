"""Attention initialised to resemble a pretrained ViT's: positions near each other and like content attend.

A small ViT trained from scratch on few images otherwise keeps nearly uniform attention for long, and its
affinities say nothing.

Source: Trockman & Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from torch import Tensor
from torch.nn import functional as F

QUERY_KEY = (0.7, 0.7)
VALUE_PROJECTION = (0.4, -0.4)
"""(noise, identity) of the product of the two matrices; the paper's values."""


@torch.no_grad()
def initialise_transformer(vit: Any) -> None:
    """Replace the random attention and patch positions of a timm transformer of plain attention."""
    for block in vit.blocks:
        initialise_attention(block.attn)
    positions = getattr(vit, "pos_embed", None)
    if positions is not None:
        grid = vit.patch_embed.grid_size
        positions[:, -grid[0] * grid[1] :].copy_(sinusoidal_positions(grid, positions.shape[2]))


@torch.no_grad()
def initialise_attention(attention: Attention) -> None:
    """Set the queries, keys, values and projection of one timm attention layer."""
    heads, width = attention.num_heads, attention.head_dim
    dim = attention.qkv.in_features
    weight = attention.qkv.weight
    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        left, right = _factors(dim, width, *QUERY_KEY)
        weight[:dim][rows] = left
        weight[dim : 2 * dim][rows] = right
    left, right = _factors(dim, dim, *VALUE_PROJECTION)
    weight[2 * dim :] = left
    attention.proj.weight.copy_(right.T)


def _factors(
    dim: int, rank: int, noise: float, identity: float
) -> tuple[Float[Tensor, "rank dim"], Float[Tensor, "rank dim"]]:
    """Two matrices whose product left^T right is the best approximation of that rank to noise Z + identity I."""
    target = noise * torch.randn(dim, dim) / math.sqrt(dim) + identity * torch.eye(dim)
    u, s, v = torch.linalg.svd(target)
    root = s[:rank].sqrt()[:, None]
    return root * u[:, :rank].T, root * v[:rank]


def sinusoidal_positions(grid: tuple[int, int], dim: int) -> Float[Tensor, "1 n dim"]:
    """Sines and cosines of row and column, a quarter of the channels each (the paper's choice with it)."""
    quarter = dim // 4
    frequency = 10_000 ** (-torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    parts = [
        function(axis.reshape(-1, 1) * frequency) for axis in (rows, columns) for function in (torch.sin, torch.cos)
    ]
    positions = torch.cat(parts, dim=1)
    return F.pad(positions, (0, dim - positions.shape[1]))[None]
