"""The pieces of a Conformer: bottlenecks, the units that join its two branches, and the block of all of them.

Source: Peng et al., "Conformer: Local Features Coupling Global Representations for Visual Recognition", ICCV 2021.
Attribute names are those of the published state dicts.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from aream.backbones._timm_vit import run_block
from aream.cams.affinity import LayerQK

EXPANSION = 4
"""Channels of a bottleneck's output over those inside it."""
batch_norm = functools.partial(nn.BatchNorm2d, eps=1e-6)
layer_norm = functools.partial(nn.LayerNorm, eps=1e-6)


def transformer_block(dim: int, heads: int, drop_path: float) -> Block:
    """Pre-norm, MLP of four times the width; timm's numerics and names are the published ones."""
    return Block(dim, heads, mlp_ratio=4.0, qkv_bias=True, drop_path=drop_path, norm_layer=layer_norm)


class ConvBlock(nn.Module):
    """A bottleneck: 1x1, 3x3, 1x1, batch norm after each; the residual is projected where ``project`` says so."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, project: bool = False) -> None:
        super().__init__()
        inner = outputs // EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = batch_norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = batch_norm(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = batch_norm(outputs)
        self.project = project
        if project:
            self.residual_conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.residual_bn = batch_norm(outputs)

    def forward(
        self, features: Float[Tensor, "b inputs h w"], joined: Float[Tensor, "b inner h w"] | None = None
    ) -> tuple[Float[Tensor, "b outputs h2 w2"], Float[Tensor, "b inner h2 w2"]]:
        """The output, and the activations before the last convolution.

        Args:
            joined: what the transformer branch adds before the 3x3 convolution.
        """
        inner = F.relu(self.bn1(self.conv1(features)))
        inner = F.relu(self.bn2(self.conv2(inner if joined is None else inner + joined)))
        residual = self.residual_bn(self.residual_conv(features)) if self.project else features
        return F.relu(self.bn3(self.conv3(inner)) + residual), inner


class FCUDown(nn.Module):
    """Feature map to patch tokens: 1x1 convolution, average over each patch, layer norm, GELU."""

    def __init__(self, inputs: int, dim: int, stride: int) -> None:
        """``stride``: positions of the feature map a patch side."""
        super().__init__()
        self.conv_project = nn.Conv2d(inputs, dim, 1)
        self.ln = layer_norm(dim)
        self.stride = stride

    def forward(self, features: Float[Tensor, "b inputs height width"]) -> Float[Tensor, "b n dim"]:
        pooled = F.avg_pool2d(self.conv_project(features), self.stride)
        return F.gelu(self.ln(pooled.flatten(2).transpose(1, 2)))


class FCUUp(nn.Module):
    """Patch tokens to a feature map: 1x1 convolution, batch norm, ReLU, every patch repeated over its positions."""

    def __init__(self, dim: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_project = nn.Conv2d(dim, outputs, 1)
        self.bn = batch_norm(outputs)
        self.stride = stride

    def forward(
        self, patches: Float[Tensor, "b n dim"], grid: tuple[int, int]
    ) -> Float[Tensor, "b outputs height width"]:
        h, w = grid
        maps = patches.transpose(1, 2).reshape(len(patches), -1, h, w)
        maps = F.relu(self.bn(self.conv_project(maps)))
        return F.interpolate(maps, size=(h * self.stride, w * self.stride), mode="nearest")


class CoupledBlock(nn.Module):
    """One layer of both branches (``conv_trans_i``): features feed the tokens, the tokens feed the next features."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        token_stride: int,
        dim: int,
        heads: int,
        drop_path: float,
        cls_double: bool,
        last: bool,
    ) -> None:
        """
        Args:
            stride: of the convolution branch; the first block of a stage halves its grid.
            token_stride: positions of the feature map a patch side, after ``stride``.
            last: the network's last block, whose fusion projects its residual.
        """
        super().__init__()
        inner = outputs // EXPANSION
        self.cnn_block = ConvBlock(inputs, outputs, stride=stride, project=inputs != outputs)
        # Deviates from the ImageNet model, where the last one halves the grid: TransCAM and AReAM keep that of the
        # patches, with the same weights.
        self.fusion_block = ConvBlock(outputs, outputs, project=last)
        self.squeeze_block = FCUDown(inner, dim, token_stride)
        self.expand_block = FCUUp(dim, inner, token_stride)
        self.trans_block = transformer_block(dim, heads, drop_path)
        self.cls_double = cls_double

    def forward(
        self, features: Float[Tensor, "b inputs height width"], tokens: Float[Tensor, "b tokens dim"]
    ) -> tuple[Float[Tensor, "b outputs height2 width2"], Float[Tensor, "b tokens dim"], LayerQK]:
        """Features and tokens of the next layer, and this one's queries and keys."""
        features, inner = self.cnn_block(features)
        grid = inner.shape[2] // self.squeeze_block.stride, inner.shape[3] // self.squeeze_block.stride
        first = tokens[:, :1] * 2 if self.cls_double else tokens[:, :1]
        tokens, layer = run_block(
            self.trans_block, torch.cat([first, tokens[:, 1:] + self.squeeze_block(inner)], dim=1)
        )
        features, _ = self.fusion_block(features, self.expand_block(tokens[:, 1:], grid))
        return features, tokens, layer
