"""Short names for configurations that are shown beside each other: what tells them apart, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.canvas import config_title
from orchestrator.plan import telling


def line_titles(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A title each: of components the name and the settings that vary between those of one name; whole sections, which
    go with another axis, only where titles would be equal without."""
    short = [{key: _short(key, value, configs) for key, value in config.items()} for config in configs]
    kept = [{key: value for key, value in config.items() if value is not None} for config in short]
    titles = [config_title(config) for config in kept]
    return titles if len(set(titles)) == len(titles) else [config_title(config) for config in configs]


def _short(key: str, value: Any, configs: Sequence[Mapping[str, Any]]) -> Any:
    if isinstance(value, Mapping) and "name" not in value:
        return None
    return telling(value, [config[key] for config in configs if key in config])
