"""Plug-ins that a sweep used, kept in its folder, so that what it recorded can be built by another command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aream.errors import ConfigError
from workers.plugins import activate, activate_installed, active, read_plugin

PLUGINS = "plugins"
"""Key of a sweep's ``config.json``."""


@dataclass(frozen=True)
class RecordedPlugin:
    module: str
    place: str
    """Path of its file, or the name of an installed module."""
    digest: str


def as_recorded(folder: Path) -> dict[str, Any]:
    """The part of ``config.json`` that says which plug-ins this process has; empty without any.

    Args:
        folder: that the sweep file's paths are from.
    """
    found = [
        {
            "module": plugin.module,
            "place": str(folder / plugin.place) if plugin.place.endswith(".py") else plugin.place,
            "digest": plugin.digest,
        }
        for plugin in active()
    ]
    return {PLUGINS: found} if found else {}


def read_recorded(config: Mapping[str, Any]) -> list[RecordedPlugin]:
    """Those of a sweep's ``config.json``.

    Raises:
        TypeError: they are no such list.
    """
    return [RecordedPlugin(**given) for given in config.get(PLUGINS, [])]


def activate_recorded(recorded: Iterable[RecordedPlugin]) -> dict[str, str]:
    """Activate plug-ins that are as they were when the sweep used them, and those that are installed.

    Returns:
        Module -> why it is not used: its file is gone, or has changed since.

    Raises:
        ConfigError: an installed plug-in cannot be used.
    """
    activate_installed()
    unusable = {}
    for one in recorded:
        if any((plugin.module, plugin.digest) == (one.module, one.digest) for plugin in active()):
            continue
        try:
            plugin = read_plugin(one.place, Path.cwd())
            if (plugin.module, plugin.digest) != (one.module, one.digest):
                raise ConfigError(f"{one.place}: has changed since the sweep used it")
            activate([plugin])
        except ConfigError as error:
            unusable[one.module] = f"plug-in {one.module}: {error}"
    return unusable
