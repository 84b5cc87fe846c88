"""The MCTformer hosts, small enough for a test."""

from __future__ import annotations

import torch

from aream.backbones import mctformer_plus, mctformer_v1, mctformer_v2

PUBLISHED = {"class_token_mass": "copied"}
SIZE = {
    "vit": "vit_tiny_patch16_224",
    "patch_size": 8,
    "dim": 12,
    "depth": 4,
    "heads": 3,
    "drop_path": 0.0,
    **PUBLISHED,
}
HOSTS = {"v1": mctformer_v1, "v2": mctformer_v2, "plus": mctformer_plus}
CLASSES = 3


def built(name, image_size=32, classes=CLASSES, **changes):
    torch.manual_seed(0)
    host = HOSTS[name].build(HOSTS[name].Config(**SIZE, **changes), classes, image_size).eval()
    with torch.no_grad():  # attention far from uniform
        for block in host.blocks:
            block.attn.qkv.weight.mul_(30)
    return host
