"""Hosts that MoRe makes sense on."""

from __future__ import annotations

from typing import Any

from aream.errors import ConfigError
from aream.methods._more_config import Config
from aream.methods._more_sampling import WINDOW
from aream.methods.protocol import HostShape

NEEDED = "more needs a host with one class token a class: an mctformer, or vit with class_tokens: per_class"


def check_host(config: Any, host: str, host_config: Any) -> None:
    """
    Raises:
        ConfigError: the backbone has not one token a class.
    """
    if not host.startswith("mctformer") and getattr(host_config, "class_tokens", None) != "per_class":
        raise ConfigError(f"method.name: {NEEDED}; got {host}")


def check_shape(config: Config, host: HostShape) -> None:
    """
    Raises:
        ConfigError: no token a class, one class alone, or a grid smaller than the windows that patches are drawn by.
    """
    rows = 0 if host.class_rows is None else host.class_rows.stop - host.class_rows.start
    if rows != host.classes:
        raise ConfigError(f"name: {NEEDED}; got {rows} for {host.classes} classes")
    if host.classes < 2:
        raise ConfigError(f"name: more needs two classes or more, whose tokens it joins, got {host.classes}")
    least = (WINDOW + 1) * host.patch_size
    if config.uncertain_weight > 0 and host.image_size < least:
        raise ConfigError(
            f"uncertain_weight: patches are drawn by windows of {WINDOW} on a side, for which images need a side of "
            f"{least} pixels, {WINDOW + 1} patches of {host.patch_size}; got train.image_size {host.image_size}; "
            "need a larger one, or uncertain_weight: 0"
        )
