"""What the MCTformer hosts are configured by."""

from __future__ import annotations

from typing import Literal

from aream.backbones._checkpoint import check_weights_key
from aream.backbones._sizes import check_sizes
from aream.config import added, config, location
from aream.errors import ConfigError

IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@config
class MCTformerConfig:
    vit: str = "deit_small_patch16_224"
    """timm name of a plain ViT (one class token, learnt positions)."""
    weights: str | None = location(None)
    """Weight file (.pth or .safetensors; DeiT, timm or this host's own layout), ``pretrained`` for timm's hub, or
    null."""
    weights_key: str | None = added(None)
    """Which state dict of a weight file that holds several, such as ``model_ema`` or ``teacher``; null: the only one,
    else ``model`` or ``state_dict``."""
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
    class_token_mass: Literal["auto", "split", "copied"] = "auto"
    """Of the attention to the C class tokens: ``copied``, each starts with the weights, and takes the attention, of the
    ViT's one (published), so that C copies take up to nine tenths of a layer's attention; ``split``, log C is taken off
    the logits towards them, so that together they take what the one took, and the untrained host sees its images as the
    ViT did. auto: split with the weights of a ViT; copied with random ones, and with a file of this host's own layout
    that does not say otherwise."""
    class_attention_layers: int | None = None
    """How many of the last layers the class attention is taken from; null: all."""
    class_attention_reduce: Literal["mean", "sum"] = "mean"
    """Over those layers. A factor of the map: nothing that is normalised at the end depends on it; entropies do, of
    MCTformer-V1, whose CAM it is, and of a map that is ``localised``."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path: need 0 <= drop_path < 1, got {self.drop_path}")
        if self.normalisation not in (None, "imagenet", "half"):
            raise ConfigError(f"normalisation: allowed are imagenet, half and null, got {self.normalisation!r}")
        check_sizes(self)
