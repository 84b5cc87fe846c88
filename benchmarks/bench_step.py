"""AReAM's training step on DeiT-S/16 at 224 px against the MCTformer classifier's own."""

from __future__ import annotations

import torch

from benchmarks.measure import CPU, Kind, Result
from benchmarks.step_cost import Case, step_cost

KIND: Kind = "cpu"


def measure(device: torch.device = CPU) -> list[Result]:
    case = Case(
        "deit_s_224",
        "mctformer_v2",
        {"vit": "deit_small_patch16_224", "class_token_mass": "copied", "final_norm": False},
        224,
        batch=8,
        repeats=4,
        published=True,
    )
    return list(step_cost(case, device))
