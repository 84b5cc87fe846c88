"""A DeepLab-style segmenter on a timm encoder: dilated features, parallel atrous convolutions, bilinear upsampling.

Source: Chen et al., "DeepLab" (LargeFOV: a 3x3 convolution of rate 12; ASPP: several rates beside each other).
"""

from __future__ import annotations

import logging
import math
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from aream.config import PRETRAINED, added, config, location
from aream.data.files import reason, unreadable
from aream.errors import ConfigError
from aream.networks.checkpoint import check_weights_key, fit_state_dict, read_state_dict, weights_fingerprint
from aream.networks.timm_names import architecture, check_tag

log = logging.getLogger(__name__)


@config
class Config:
    encoder: str = "resnet18"
    """timm name of a model that gives features (a convolutional one, or a plain ViT)."""
    weights: str | None = location(None)
    """Weight file of the encoder, ``pretrained`` for timm's hub, or null for random weights. A ViT's positions are
    brought to the grid of the crop."""
    weights_key: str | None = added(None)
    """Name of the state dict to read from a weight file that holds several, such as ``model_ema``; null: the only one,
    else ``model`` or ``state_dict``."""
    output_stride: int | None = 8
    """Pixels a feature of the last level; null where the encoder's stride is fixed (a ViT)."""
    level: int = -1
    """Index of the encoder's feature level that is read, the last by default; an earlier one is finer and cheaper."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the parallel 3x3 convolutions; one rate of 12 is LargeFOV."""
    channels: int = 256
    """Channels of each branch."""
    dropout: float = 0.1
    """Dropout rate before the classifier."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if self.output_stride not in (None, 8, 16, 32):
            raise ConfigError(f"output_stride: allowed are 8, 16, 32 and null, got {self.output_stride}")
        if not 1 <= len(self.rates) <= 16 or not 1 <= min(self.rates) <= max(self.rates) <= 512:
            raise ConfigError(f"rates: need 1..16 dilations in 1..512, got {list(self.rates)}")
        if not 1 <= self.channels <= 4096:
            raise ConfigError(f"channels: need a number in 1..4096, got {self.channels}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout: need 0 <= dropout < 1, got {self.dropout}")
        if architecture(self.encoder) not in timm.list_models():
            raise ConfigError(
                f"encoder: timm has no model {self.encoder!r}; try resnet18, resnet50 or vit_tiny_patch16_224"
            )
        check_tag("encoder", self.encoder)


def fingerprint(config: Config) -> str:
    """Identity of the encoder's initial weights."""
    return weights_fingerprint(config.weights, config.encoder)


def build(config: Config, classes: int, image_size: int) -> DeepLab:
    """The segmenter with its initial weights, for ``classes`` outputs, background included.

    Raises:
        ConfigError: the encoder gives no features of this stride.
        DataError: weights that do not fit or cannot be fetched.
    """
    return DeepLab(config, classes, image_size)


class DeepLab(nn.Module):
    def __init__(self, config: Config, classes: int, image_size: int) -> None:
        super().__init__()
        encoder = _encoder(config, image_size)
        self.encoder: nn.Module = encoder
        vit = getattr(encoder, "model", None)
        self.padded_to = int(vit.patch_embed.patch_size[0]) if isinstance(vit, VisionTransformer) else 1
        channels = int(encoder.feature_info.channels()[-1])
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, config.channels, 3, padding=rate, dilation=rate, bias=False),
                nn.BatchNorm2d(config.channels),
                nn.ReLU(inplace=True),
            )
            for rate in config.rates
        )
        self.classifier = nn.Sequential(
            nn.Dropout(config.dropout), nn.Conv2d(config.channels * len(config.rates), classes, 1)
        )
        cfg = timm.get_pretrained_cfg(config.encoder)
        self.mean, self.std = tuple(cfg.mean), tuple(cfg.std)

    def forward(self, images: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b k height width"]:
        features = self.encoder(images)[-1]
        logits = self.classifier(torch.cat([branch(features) for branch in self.branches], dim=1))
        height, width = images.shape[2:]
        # A ViT pads an image to whole patches on the right and below: its features are of the padded one.
        whole = [-(-side // self.padded_to) * self.padded_to for side in (height, width)]
        return F.interpolate(logits, size=whole, mode="bilinear", align_corners=False)[:, :, :height, :width]

    def head_parameters(self) -> list[nn.Parameter]:
        return [*self.branches.parameters(), *self.classifier.parameters()]


def _encoder(config: Config, image_size: int) -> Any:
    changes: dict[str, object] = {} if config.output_stride is None else {"output_stride": config.output_stride}
    plain = architecture(config.encoder)
    if any(plain in timm.list_models(module=family) for family in ("vision_transformer", "deit")):
        changes = {"img_size": image_size, "dynamic_img_size": True, "dynamic_img_pad": True}
    try:
        encoder = timm.create_model(
            config.encoder,
            pretrained=config.weights == PRETRAINED,
            features_only=True,
            out_indices=(config.level,),
            **changes,
        )
    except (OSError, RuntimeError) as error:
        if config.weights != PRETRAINED:
            raise ConfigError(f"encoder: {config.encoder} gives no features: {reason(error)}") from error
        words = f"cannot be fetched from timm's hub ({reason(error)}); give a local file"
        raise unreadable(f"weights of {config.encoder}", error, words) from error
    except (TypeError, NotImplementedError, AssertionError, IndexError, ValueError) as error:
        raise ConfigError(
            f"encoder, output_stride, level: {config.encoder} gives no level {config.level} features of stride "
            f"{config.output_stride}: {reason(error)}"
        ) from error
    if config.weights and config.weights != PRETRAINED:
        _load(encoder, config.weights, config.weights_key)
    return encoder


def _load(encoder: nn.Module, path: str, key: str | None) -> None:
    """Encoder weights by their timm names; classifier entries of the file are left over, nothing may be missing."""
    state = read_state_dict(path, key)
    vit, positions = getattr(encoder, "model", None), state.get("pos_embed")
    if isinstance(vit, VisionTransformer) and vit.pos_embed is not None and positions is not None:
        state["pos_embed"] = _on_own_grid(positions, vit, path)
    own = encoder.state_dict()
    prefix = "model." if all(name.startswith("model.") for name in own) else ""
    state = {prefix + name: value for name, value in state.items()}
    fit_state_dict(encoder, state, path, drop=lambda name, value: name not in own)


def _on_own_grid(positions: Tensor, vit: Any, path: str) -> Tensor:
    """A file's positions on the grid of the crop, as timm brings those there that it fetches; of no square as they
    are."""
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    patches = positions.shape[1] - prefix if positions.ndim == 3 else 0
    if positions.shape == vit.pos_embed.shape or patches < 1 or math.isqrt(patches) ** 2 != patches:
        return positions
    log.warning("%s: positions of %d tokens are interpolated to %d", path, positions.shape[1], vit.pos_embed.shape[1])
    found: Tensor = resample_abs_pos_embed(positions, list(vit.patch_embed.grid_size), num_prefix_tokens=prefix)
    return found
