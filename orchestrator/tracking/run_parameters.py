"""What a run of a configuration is called, and its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aream.config import plain
from orchestrator.text import show
from workers.trial import TrialConfig


def title(shown: Mapping[str, str], seed: int) -> str:
    """Tells a configuration from every other one of the sweep."""
    return ", ".join([*(f"{key.rpartition('.')[2]} {text}" for key, text in shown.items()), f"seed {seed}"])


def params(trial: TrialConfig, values: Mapping[str, Any], seed: int) -> dict[str, str]:
    """The value on every axis, then the whole configuration, a key of the sweep file each."""
    axes = {key: show(value) for key, value in values.items()}
    return {**axes, "seed": str(seed), **{k: text for k, text in _flat(plain(trial)) if k not in axes and k != "seed"}}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """A component's own settings stand behind its name, as in the sweep file."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, key if name == "config" else f"{key}.{name}".lstrip("."))
    else:
        yield key, show(value)
