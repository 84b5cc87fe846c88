"""A package's folder is its registry: the name in the YAML is the module's name, so adding a backbone,
method, refiner, dataset or stage is adding one file."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from aream.errors import ConfigError

CONTRACT = "protocol"
"""The module of a registry that says what the others hold."""


def is_offered(module: str) -> bool:
    """Return True if a registry's module can be named in a YAML: not its contract, nor one with a leading
    underscore."""
    return module != CONTRACT and not module.startswith("_")


def names(package: ModuleType) -> list[str]:
    """Modules of ``package`` that can be named in a YAML."""
    return list(_names(tuple(package.__path__)))


@functools.cache
def _names(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(info.name for info in pkgutil.iter_modules(folders) if is_offered(info.name)))


def forget() -> None:
    """Look at the folders anew: a module was added."""
    _names.cache_clear()


def load(package: ModuleType, name: str) -> ModuleType:
    """Import ``package.name``.

    Raises:
        ConfigError: there is no such module; the message lists those there are.
    """
    if name not in names(package):
        raise ConfigError(f"{package.__name__} has no {name!r}; it has: {', '.join(names(package))}")
    return importlib.import_module(f"{package.__name__}.{name}")
