"""With this folder on PYTHONPATH a sweep may name the dataset ``slow_shapes``, which lies here and not in aream."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


class _Datasets:
    """Adds a folder to those that ``aream.datasets`` is looked for in."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "aream.datasets":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(Path(__file__).parent / "datasets"))
        return spec


sys.meta_path.insert(0, _Datasets)
