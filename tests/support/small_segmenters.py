"""A configuration of each segmenter that is built and trained in a moment; one without an entry is tested as it is."""

from __future__ import annotations

from typing import Any

import torch

from aream import discover, segmenters
from aream.segmenters import deeplab, deeplab_largefov, deeplab_v3

SMALL = {
    "deeplab": deeplab.Config(encoder="resnet10t", output_stride=None, level=1, rates=(1,), channels=8),
    "deeplab_largefov": deeplab_largefov.Config(width=2, depths=(2, 1, 1, 2), channels=4, rate=2),
    "deeplab_v3": deeplab_v3.Config(encoder="mobilenet_v3_large"),
}


def build(name: str, classes: int, side: int = 32) -> Any:
    torch.manual_seed(0)
    module = discover.load(segmenters, name)
    return module.build(SMALL.get(name) or module.Config(), classes, side)
