"""The configuration that a contract is tested with: a module's own word, that of the tests, or its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def contract_config(module: ModuleType, known: Mapping[str, Any], folder: Path) -> Any:
    """A plug-in may have ``contract_config(folder)``, which writes what files it needs into an empty folder.

    Args:
        known: configurations of modules that are at home here, by name.
    """
    if hasattr(module, "contract_config"):
        return module.contract_config(folder)
    return known.get(module.__name__.rpartition(".")[2]) or module.Config()
