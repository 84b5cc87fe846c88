"""Configuration of the hosts around a timm transformer: which one, its weights and its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from aream.backbones._sizes import check_sizes
from aream.config import added, config, location
from aream.errors import ConfigError
from aream.images import Statistics
from aream.networks.checkpoint import check_weights_key, weights_fingerprint

IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@config
class TimmConfig:
    vit: str
    """timm name of the transformer."""
    weights: str | None = location(None)
    """Weight file (.pth or .safetensors; DeiT, timm or this host's own layout), ``pretrained`` for timm's hub,
    ``embedded`` for the small ViT that comes with this package (``patch_size: 8, dim: 64, depth: 8, heads: 4``), or
    null."""
    weights_key: str | None = added(None)
    """Name of the state dict to read from a weight file that holds several, such as ``model_ema`` or ``teacher``; null:
    the only one, else ``model`` or ``state_dict``."""
    drop_path: float = 0.1
    """Stochastic depth rate of the last block, in [0, 1)."""
    normalisation: Literal["imagenet", "half"] | None = None
    """``imagenet`` or ``half`` (mean = std = 0.5); null: what timm says the model expects."""
    initialisation: Literal["timm", "mimetic"] = "timm"
    """Distribution of random weights: timm's, or attention that starts out local and alike-to-alike, for small data."""
    patch_size: int | None = None
    """Pixels a patch side; null: the model's own, as for the next three."""
    dim: int | None = None
    """Token dimension."""
    depth: int | None = None
    """Transformer layers."""
    heads: int | None = None
    """Attention heads."""

    def __post_init__(self) -> None:
        check_weights_key(self.weights, self.weights_key)
        if not 0 <= self.drop_path < 1:
            raise ConfigError(f"drop_path: need 0 <= drop_path < 1, got {self.drop_path}")
        check_sizes(self)

    def changed_sizes(self) -> dict[str, int]:
        """Return the sizes that differ from the named model's, by timm's names."""
        sizes = {"patch_size": self.patch_size, "embed_dim": self.dim, "depth": self.depth, "num_heads": self.heads}
        return {name: value for name, value in sizes.items() if value is not None}

    def mean_std(self, published: Mapping[str, Any]) -> tuple[Statistics, Statistics]:
        """Return mean and standard deviation that images are normalised with; ``published`` is what timm says of the
        weights."""
        if self.normalisation is None:
            return tuple(published["mean"]), tuple(published["std"])
        return IMAGENET_MEAN_STD if self.normalisation == "imagenet" else HALF_MEAN_STD


def fingerprint(config: TimmConfig) -> str:
    """Identity of the initial weights."""
    return weights_fingerprint(config.weights, config.vit)
