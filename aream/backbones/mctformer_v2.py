"""MCTformer-V2: a plain ViT with one class token a class and a convolutional CAM head on its patch tokens.

Source: Xu et al., "Multi-class Token Transformer for Weakly Supervised Semantic Segmentation", CVPR 2022;
as the host of AReAM: Cheng et al., arXiv:2305.03112.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from aream.affinity import mean_attention
from aream.backbones._checkpoint import PRETRAINED, fit_state_dict, read_state_dict, weights_fingerprint
from aream.backbones._mimetic import initialise_attention, sinusoidal_positions
from aream.backbones._protocol import BackboneOutput
from aream.backbones._timm_vit import create_vit, run_block
from aream.cam import fuse_class_attention
from aream.config import config, location
from aream.errors import ConfigError

IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LARGEST = {"patch_size": 256, "dim": 8192, "depth": 256, "heads": 256}


@config
class Config:
    vit: str = "deit_small_patch16_224"
    """timm name of a plain ViT (one class token, learnt positions)."""
    weights: str | None = location(None)
    """Weight file (.pth or .safetensors; DeiT, timm or MCTformer layout), ``pretrained`` for timm's hub, or null."""
    drop_path: float = 0.1
    """Stochastic depth rate of the last block, in [0, 1)."""
    normalisation: str | None = None
    """``imagenet`` or ``half`` (mean = std = 0.5); null: what timm says the model expects."""
    initialisation: Literal["timm", "mimetic"] = "timm"
    """Of random weights: timm's, or attention that starts out local and alike-to-alike, for small data."""
    patch_size: int | None = None
    """Pixels a patch side; null: the model's own, as for the next three."""
    dim: int | None = None
    """Token dimension."""
    depth: int | None = None
    """Transformer layers."""
    heads: int | None = None
    """Attention heads."""

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path: need 0 <= drop_path < 1, got {self.drop_path}")
        if self.normalisation not in (None, "imagenet", "half"):
            raise ConfigError(f"normalisation: allowed are imagenet, half and null, got {self.normalisation!r}")
        for name, most in LARGEST.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ConfigError(f"{name}: need a number in 1..{most}, got {value}")
        if self.dim is not None and self.dim % (self.heads or 1):
            raise ConfigError(f"dim: need a multiple of heads ({self.heads}), got {self.dim}")


@functools.lru_cache(maxsize=16)
def fingerprint(config: Config) -> str:
    """Identity of the initial weights."""
    return weights_fingerprint(config.weights, config.vit)


@functools.lru_cache(maxsize=256)
def shape(config: Config) -> tuple[int, int]:
    """(depth, patch size) without reading weights.

    Raises:
        ConfigError: timm has no such plain ViT.
    """
    with torch.device("meta"):
        host = MCTformerV2(config, classes=1, image_size=None)
    return host.depth, host.patch_size


def build(config: Config, classes: int, image_size: int) -> MCTformerV2:
    """The host with its initial weights.

    Args:
        image_size: training image side in pixels; positions are learnt for this grid when weights are random.

    Raises:
        DataError: the weight file does not fit.
    """
    pretrained = config.weights == PRETRAINED
    host = MCTformerV2(config, classes, None if config.weights else image_size, pretrained=pretrained)
    if config.weights is None and config.initialisation == "mimetic":
        host.initialise_mimetic()
    if config.weights and not pretrained:
        state = host.adapt(read_state_dict(config.weights))
        fit_state_dict(host, state, config.weights, new=("head.weight", "head.bias"), drop=_is_classifier)
    return host


def _is_classifier(name: str, value: Tensor) -> bool:
    """The ImageNet classifier of a published ViT; MCTformer's own head is a 3x3 convolution (4 axes)."""
    linear = name in ("head.weight", "head_dist.weight") and value.ndim == 2
    return linear or name in ("dist_token", "head_dist.bias") or (name == "head.bias" and value.numel() == 1000)


class MCTformerV2(nn.Module):
    """Parameter names are those of the published checkpoints."""

    def __init__(self, config: Config, classes: int, image_size: int | None, *, pretrained: bool = False) -> None:
        """``image_size`` None: the size of the named timm model."""
        super().__init__()
        changes = {
            "img_size": image_size,
            "patch_size": config.patch_size,
            "embed_dim": config.dim,
            "depth": config.depth,
            "num_heads": config.heads,
        }
        vit = create_vit(
            config.vit,
            pretrained=pretrained,
            drop_path_rate=config.drop_path,
            **{name: value for name, value in changes.items() if value is not None},
        )
        self.patch_embed = vit.patch_embed
        self.blocks = vit.blocks
        self.norm = vit.norm  # part of the published state dict; the method never applies it
        self.class_tokens = classes
        self.depth = len(vit.blocks)
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.dim = int(vit.embed_dim)
        self.position_grid: tuple[int, int] = vit.patch_embed.grid_size
        self.mean, self.std = _mean_std(config, vit)
        self.cls_token = nn.Parameter(vit.cls_token.detach().repeat(1, classes, 1))
        class_positions = vit.pos_embed.detach()[:, :1].repeat(1, classes, 1)
        self.pos_embed = nn.Parameter(torch.cat([class_positions, vit.pos_embed.detach()[:, 1:]], dim=1))
        self.head = nn.Conv2d(self.dim, classes, kernel_size=3, padding=1)

    @torch.no_grad()
    def initialise_mimetic(self) -> None:
        """Replace the random attention and patch positions."""
        for block in self.blocks:
            initialise_attention(block.attn)
        self.pos_embed[:, self.class_tokens :] = sinusoidal_positions(self.position_grid, self.dim)

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Repeat a single class token and its position once a class, as MCTformer initialises from DeiT."""
        state = dict(state)
        token, positions = state.get("cls_token"), state.get("pos_embed")
        if token is None or positions is None or token.ndim != 3 or positions.ndim != 3:
            return state
        if token.shape[1] != 1 or self.class_tokens == 1:
            return state
        state["cls_token"] = token.repeat(1, self.class_tokens, 1)
        patches = self.position_grid[0] * self.position_grid[1]
        prefix = positions[:, : positions.shape[1] - patches]  # a distilled DeiT has a second prefix position
        state["pos_embed"] = torch.cat(
            [prefix[:, :1].repeat(1, self.class_tokens, 1), positions[:, prefix.shape[1] :]], dim=1
        )
        return state

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput:
        """Class logits, CAM and the queries and keys of every layer.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        The CAM is the rectified output of the 3x3 head (Eq. 1), bias kept; logits are the mean of each class
        token over its channels (no final norm) and the global average of the head's map before rectifying.
        """
        h, w = images.shape[2] // self.patch_size, images.shape[3] // self.patch_size
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        tokens = tokens + self._positions(h, w)
        layers = []
        for block in self.blocks:
            tokens, layer = run_block(block, tokens)
            layers.append(layer)
        t = self.class_tokens
        features = tokens[:, t:].transpose(1, 2).reshape(len(images), self.dim, h, w)
        scores = self.head(features)
        return BackboneOutput(
            logits=(tokens[:, :t].mean(dim=-1), scores.mean(dim=(2, 3))), cam=F.relu(scores), layers=layers
        )

    def _positions(self, h: int, w: int) -> Float[Tensor, "1 tokens dim"]:
        """Positions for an h x w grid: bicubic, with the published 0.1 shift of the scale factor."""
        if (h, w) == self.position_grid:
            return self.pos_embed
        t, (rows, columns) = self.class_tokens, self.position_grid
        grid = self.pos_embed[:, t:].reshape(1, rows, columns, self.dim).permute(0, 3, 1, 2)
        scale = ((h + 0.1) / rows, (w + 0.1) / columns)
        grid = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :t], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)

    @torch.no_grad()
    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """CAM times class-token attention, averaged over all layers.

        Deviates from MCTformer-V2, which sums the last three layers; AReAM's authors average all of them.
        """
        t = self.class_tokens
        maps = [mean_attention(layer.queries[:, :, :t], layer.keys, t) for layer in output.layers]
        attention = torch.stack(maps).mean(dim=0)
        return fuse_class_attention(output.cam.detach().float(), attention)

    def head_parameters(self) -> list[nn.Parameter]:
        """The CAM head and the class tokens: pretrained weights know neither."""
        return [*self.head.parameters(), self.cls_token]

    def no_weight_decay(self) -> set[str]:
        """The positions. Deviates from DeiT, as the authors do: class tokens decay."""
        return {name for name, _ in self.named_parameters() if name.startswith("pos_embed")}


def _mean_std(config: Config, vit: VisionTransformer) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    if config.normalisation == "imagenet":
        return IMAGENET_MEAN_STD
    if config.normalisation == "half":
        return HALF_MEAN_STD
    return tuple(vit.pretrained_cfg["mean"]), tuple(vit.pretrained_cfg["std"])
