"""Configuration as records keep it, read back into its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from aream.config import Component
from orchestrator.spec.build import build, build_component, strict
from workers.plugins import activate_installed

T = TypeVar("T")


def recorded(cls: type[T], value: object, key: str) -> T:
    """An instance of a configuration class.

    Raises:
        ConfigError: what was recorded is no such configuration, or of another version.
    """
    return strict(lambda report: build(cls, _given(value), key, report))


def recorded_component(package: str, value: object, key: str, **more: Any) -> Component:
    """A component of ``package``, with some of its settings replaced.

    Raises:
        ConfigError: as of :func:`recorded`, or an installed plug-in cannot be used.
    """
    activate_installed()
    given = _given(value)
    settings = {**given, **more} if isinstance(given, Mapping) else given
    return strict(lambda report: build_component(package, settings, key, report, None))


def _given(value: object) -> Any:
    """Components as a sweep file has them: settings beside the name."""
    if isinstance(value, Mapping):
        if value.keys() == {"name", "config"} and isinstance(value["config"], Mapping):
            return {"name": value["name"], **_given(value["config"])}
        return {key: _given(item) for key, item in value.items()}
    return [_given(item) for item in value] if isinstance(value, list) else value
