"""The authors' small network as our host, with what it came to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from aream.backbones import vit
from aream.engine.batches import Batch

GOLDEN = Path(__file__).parent / "golden"
EXACT = {"rtol": 0, "atol": 1e-10}
CONFIG = vit.Config(
    vit="vit_tiny_patch16_224", dim=32, depth=4, heads=2, drop_path=0.0, head_kernel=1, pooling="class_token",
    final_norm=False,
)  # fmt: skip


def stored() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in np.load(GOLDEN / "acr_tiny.npz").items()}


def host(numbers: dict[str, torch.Tensor]) -> vit.TimmTransformer:
    """Its MLPs are half as wide as ours: the other half is 0 and stays so."""
    built = vit.build(CONFIG, classes=5, image_size=64)
    state = {name.replace("vit_model.", "vit."): value for name, value in numbers.items() if "vit_model." in name}
    for name, value in state.items():
        if ".fc1." in name:
            state[name] = torch.cat([value, torch.zeros_like(value)])
        if ".fc2.weight" in name:
            state[name] = F.pad(value, (0, 64))
    state["head.weight"] = numbers["vit_cls_head.weight"][..., None, None]
    state["head.bias"] = numbers["vit_cls_head.bias"]
    built.double().load_state_dict(state)
    return built.eval()


def batch(numbers: dict[str, torch.Tensor]) -> Batch:
    return Batch(numbers["images"], numbers["labels"], ("a", "b"))
