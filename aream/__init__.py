"""The science: CAMs, affinities, pseudo-labels and the networks that make them. Knows no cluster, tracker or store.

Importing it makes torchvision importable beside a CPU build of torch: the package index offers torchvision with
CUDA operators only, and its import registers shapes for ``nms`` operators that such a torch has never heard of.
Declaring the two operators is enough for timm, the transforms and the models; the operators themselves
are not called anywhere in this project.
"""

import sys
from importlib.abc import MetaPathFinder
from typing import Any

_KEPT: list[Any] = []
"""Libraries kept for the life of the process: dropping one drops its definitions."""


class _BeforeTorchvision(MetaPathFinder):
    """Declares the operators when somebody asks for torchvision, so that what needs no torch does not import it."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)


sys.meta_path.insert(0, _BeforeTorchvision())
