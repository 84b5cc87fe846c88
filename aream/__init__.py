"""The science: CAMs, affinities, pseudo-labels and the networks that make them. Knows no cluster, tracker or store.

Importing it makes torchvision importable beside a CPU build of torch: the package index offers torchvision with
CUDA operators only, and its import registers shapes for ``nms`` operators that such a torch has never heard of.
Declaring the two operators is enough for timm, the transforms and the models; the operators themselves
are not called anywhere in this project.
"""

import torch

if torch.version.cuda is None:
    # Kept for the life of the process: dropping the library drops its definitions.
    _TORCHVISION_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _TORCHVISION_OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
