"""Sizes of a timm network that a configuration may change."""

from __future__ import annotations

from typing import Any

from aream.errors import ConfigError

LARGEST = {"patch_size": 256, "dim": 8192, "depth": 256, "heads": 256, "class_attention_layers": 256}


def check_sizes(config: Any) -> None:
    """
    Raises:
        ConfigError: a size beyond what any network has, or a token dimension that the heads do not divide.
    """
    for name, most in LARGEST.items():
        value = getattr(config, name)
        if value is not None and not 1 <= value <= most:
            raise ConfigError(f"{name}: need a number in 1..{most}, got {value}")
    if config.dim is not None and config.dim % (config.heads or 1):
        raise ConfigError(f"dim: need a multiple of heads ({config.heads}), got {config.dim}")


def attention_layers(config: Any, depth: int) -> int:
    """Return how many of the last of ``depth`` layers the class attention is taken from.

    Raises:
        ConfigError: more than there are.
    """
    count: int = depth if config.class_attention_layers is None else config.class_attention_layers
    if count > depth:
        raise ConfigError(
            f"class_attention_layers: need a number in 1..{depth} (the layers of {config.vit}), got {count}"
        )
    return count
