"""With this folder on PYTHONPATH a sweep may name the dataset ``slow_shapes``, which lies here and not in aream."""

import importlib.machinery
import sys
from pathlib import Path


class _Datasets:
    """Adds a folder to those that ``aream.datasets`` is looked for in."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "aream.datasets":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.submodule_search_locations.append(str(Path(__file__).parent / "datasets"))
        return spec


sys.meta_path.insert(0, _Datasets)
