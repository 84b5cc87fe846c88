"""Conformer-S/16: a convolution and a transformer branch that exchange features in every block, and a CAM head.

Source: Peng et al., "Conformer", ICCV 2021; as a host of CAMs Li et al., "TransCAM", JVCIR 2023, and AReAM: Cheng et
al., arXiv:2305.03112.

AReAM's authors train this host at 384 px with ``augmentation: {name: scale_and_crop}``, batches of 8, 12 epochs with 2
of warm-up, ``lr: 5e-5``, ``head_lr_scale: 10``, ``weight_decay: 0.01``, ``schedule_step: iteration``,
``lr_warmup_epochs: 1``, ``lr_floor: 1e-6``, ``select: last``; labels and CAMs at scales 0.5, 1.0 and 1.5.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional as F

from aream.backbones._conformer_blocks import ConvBlock, CoupledBlock, transformer_block
from aream.backbones._conformer_layouts import HEADS, adapt
from aream.backbones._timm_vit import run_block
from aream.backbones.protocol import BackboneOutput, Padding
from aream.config import PRETRAINED, added, config, location
from aream.errors import ConfigError
from aream.networks.checkpoint import check_weights_key, fit_state_dict, read_state_dict, weights_fingerprint

PUBLISHED_SPLIT = (9, 12)
"""First deep layer of AReAM on this host: 9 of 12 (the authors' Conformer script)."""
PUBLISHED_PADDING: Padding = "before_flip"
"""Order of AReAM on this host: an image is padded to whole patches, then mirrored (``infer_conformer.py``)."""
STAGES = 3
STEM_STRIDE = 4
LARGEST = {"dim": 8192, "depth": 255, "heads": 256, "base_channels": 1024, "channel_ratio": 64}


@config
class Config:
    weights: str | None = location(None)
    """Weight file (.pth or .safetensors) in the layout of the ImageNet model, of TransCAM or of AReAM; null: random."""
    weights_key: str | None = added(None)
    """Name of the state dict to read from a weight file that holds several, such as ``model_ema``; null: the only one,
    else ``model`` or ``state_dict``."""
    head: Literal["aream", "transcam"] = "aream"
    """``aream``: a 1x1 convolution makes the CAM, its average and the class token are two classifiers with a loss each;
    ``transcam``: a 3x3 convolution, and one loss on the sum of both logits."""
    cls_double: bool = True
    """Have every coupled block double the class token, as the published model does, which ImageNet and TransCAM weights
    were trained with. AReAM's authors left it out: their checkpoints need false."""
    drop_path: float = 0.1
    """Stochastic depth rate of the last block, in [0, 1)."""
    patch_size: Literal[4, 8, 16] = 16
    """Pixels a patch side. Deviates from the published 16 for images too small for it: the convolution branch then
    stops halving at this grid."""
    dim: int = 384
    """Token dimension."""
    depth: int = 12
    """Transformer layers, a multiple of 3: a third of them in each stage of the convolution branch."""
    heads: int = 6
    """Attention heads."""
    base_channels: int = 64
    """Channels of the stem."""
    channel_ratio: int = 4
    """Channels of the first stage, as a multiple of ``base_channels``; doubled in each further one. 1 is Conformer-Ti,
    4 is S, 6 with ``dim: 576, heads: 9`` is B."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if self.weights == PRETRAINED:
            raise ConfigError("weights: timm has no Conformer to fetch; need a weight file or null, got 'pretrained'")
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path: need 0 <= drop_path < 1, got {self.drop_path}")
        for name, most in LARGEST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: need a number in 1..{most}, got {getattr(self, name)}")
        if self.depth % STAGES:
            raise ConfigError(f"depth: need a multiple of {STAGES}, got {self.depth}")
        if self.dim % self.heads:
            raise ConfigError(f"dim: need a multiple of heads ({self.heads}), got {self.dim}")
        if self.base_channels * self.channel_ratio % 4:
            raise ConfigError(
                "base_channels, channel_ratio: need a product that is a multiple of 4, "
                f"got {self.base_channels} and {self.channel_ratio}"
            )


def fingerprint(config: Config) -> str:
    """Identity of the initial weights."""
    return weights_fingerprint(config.weights, "conformer")


def shape(config: Config) -> tuple[int, int]:
    """(depth, patch size)."""
    return config.depth, config.patch_size


def build(config: Config, classes: int, image_size: int) -> Conformer:
    """The host with its initial weights; it has no positions, so that ``image_size`` says nothing to it.

    Raises:
        DataError: the weight file does not fit.
    """
    host = Conformer(config, classes)
    if config.weights:
        state = adapt(
            read_state_dict(config.weights, config.weights_key),
            classes=classes,
            head=config.head,
            cls_double=config.cls_double,
            origin=config.weights,
        )
        without_heads = not any(name in state for name in HEADS)
        fit_state_dict(host, state, config.weights, new=HEADS if without_heads else ())
        host.trained_head = not without_heads
    return host


class Conformer(nn.Module):
    """Parameter names are those of the published ImageNet checkpoint."""

    prefix_tokens = 1
    class_rows = slice(0, 1)
    published_padding = PUBLISHED_PADDING
    trained_head = False

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        self.depth, self.dim = config.depth, config.dim
        self.patch_size = int(config.patch_size)
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.sum_logits = config.head == "transcam"
        stem, dim, heads = config.base_channels, config.dim, config.heads
        channels = stem * config.channel_ratio
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)  # alone with torch's default epsilon, as published
        self.conv_1 = ConvBlock(stem, channels, project=True)
        stride = self.patch_size // STEM_STRIDE
        self.trans_patch_conv = nn.Conv2d(stem, dim, stride, stride=stride)
        self.trans_1 = transformer_block(dim, heads, drop_path=0.0)
        self._add_coupled_blocks(config, channels)
        self.trans_norm = nn.LayerNorm(dim)  # with torch's default epsilon, as published
        kernel = 3 if config.head == "transcam" else 1
        self.conv_cls_head = nn.Conv2d(channels * 2 ** (STAGES - 1), classes, kernel, padding=kernel // 2)
        self.trans_cls_head = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.apply(_initialise)

    def _add_coupled_blocks(self, config: Config, channels: int) -> None:
        """``conv_trans_2`` and on: the grid halves where a stage begins, drop path grows linearly from 0."""
        inputs, grid = channels, STEM_STRIDE
        for number in range(2, config.depth + 1):
            stage = (number - 1) * STAGES // config.depth
            outputs, before = channels * 2**stage, grid
            grid = min(STEM_STRIDE * 2**stage, self.patch_size)
            block = CoupledBlock(
                inputs,
                outputs,
                stride=grid // before,
                token_stride=self.patch_size // grid,
                dim=config.dim,
                heads=config.heads,
                drop_path=config.drop_path * (number - 1) / (config.depth - 1),
                cls_double=config.cls_double,
                last=number == config.depth,
            )
            self.add_module(f"conv_trans_{number}", block)
            inputs = outputs

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> BackboneOutput:
        """Class logits, CAM and the queries and keys of every layer, ``trans_1`` first.

        Args:
            images: normalised with ``mean`` and ``std``; sides are multiples of the patch size.

        The CAM is the output of the convolution head, bias kept. Deviates from Eq. 1 as printed: it is not rectified
        here; AReAM's authors do that on this host only once scales and flips are summed
        (:func:`aream.cams.maps.normalise`).
        """
        stem = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        features, _ = self.conv_1(stem)
        patches = self.trans_patch_conv(stem).flatten(2).transpose(1, 2)
        tokens, first = run_block(self.trans_1, torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1))
        layers = [first]
        for number in range(2, self.depth + 1):
            features, tokens, layer = self.get_submodule(f"conv_trans_{number}")(features, tokens)
            layers.append(layer)
        cam = self.conv_cls_head(features)
        by_map, by_token = cam.mean(dim=(2, 3)), self.trans_cls_head(self.trans_norm(tokens[:, 0]))
        logits = (by_map + by_token,) if self.sum_logits else (by_map, by_token)
        return BackboneOutput(logits=logits, cams=(cam,) * len(logits), layers=layers)

    @torch.no_grad()
    def localise(self, output: BackboneOutput) -> Float[Tensor, "b c h w"]:
        """The CAM itself: one class token for all classes says nothing about where each of them is."""
        return output.cam.detach().float()

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of both classifiers."""
        return [*self.conv_cls_head.parameters(), *self.trans_cls_head.parameters()]

    def layer_parameters(self, layer: int) -> list[nn.Parameter]:
        """Return the layer's parameters in both branches; the first transformer layer stands alone."""
        return list((self.trans_1 if layer == 0 else self.get_submodule(f"conv_trans_{layer + 1}")).parameters())

    def no_weight_decay(self) -> set[str]:
        """The class token (the authors' script)."""
        return {"cls_token"}


def _initialise(module: nn.Module) -> None:
    """The published initialisation of everything but norms, which start as torch's do."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
