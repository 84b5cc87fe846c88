"""The plain MCTformer host, the baseline of every comparison on it: classification losses only."""

from typing import Any

from aream.errors import ConfigError
from aream.methods._plain import Config, PlainHost, build, needs_entropy, resolve

__all__ = ["TRAINS_AS", "Config", "PlainHost", "build", "check_host", "needs_entropy", "resolve"]

TRAINS_AS = "mean_affinity"


def check_host(config: Any, host: str, host_config: Any) -> None:
    """
    Raises:
        ConfigError: the backbone is no MCTformer.
    """
    if not host.startswith("mctformer"):
        raise ConfigError(f"method.name: mctformer needs an mctformer backbone, got {host}; mean_affinity takes any")
