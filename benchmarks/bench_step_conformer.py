"""AReAM's training step on Conformer-S/16 at 384 px against the classifier's own; the published batch is 8."""

from __future__ import annotations

import torch

from benchmarks.measure import CPU, Kind, Result
from benchmarks.step_cost import Case, step_cost

KIND: Kind = "cpu"


def measure(device: torch.device = CPU) -> list[Result]:
    few = device.type == "cpu"  # a step of 8 images takes a minute
    return list(step_cost(Case("conformer_s_384", "conformer", {}, 384, batch=2 if few else 8, repeats=3), device))
