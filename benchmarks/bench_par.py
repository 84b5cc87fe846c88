"""PAR: shifted views of a map padded once, against 48 one-hot convolutions an iteration."""

from __future__ import annotations

import torch

from aream.refiners import par
from benchmarks.measure import Kind, Result, cpu_seconds
from benchmarks.published import par_convolutions

KIND: Kind = "cpu"


def measure() -> list[Result]:
    config = par.Config()
    refiner = par.build(config)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 448, 448, generator=generator)
    scores = torch.rand(1, 21, 448, 448, generator=generator).softmax(dim=1)
    found: dict[str, torch.Tensor] = {}

    def ours() -> None:
        found["ours"] = refiner.apply(refiner.kernel(image), scores)

    def baseline() -> None:
        found["baseline"] = par_convolutions(image, scores, config)

    ours()
    spent, base = cpu_seconds(ours, baseline, repeats=1)
    difference = (found["ours"] - found["baseline"]).abs().max().item()
    return [
        Result(
            name="par",
            unit="CPU s",
            ours=spent,
            baseline=base,
            required=8,
            input="1 image 448x448, 21 channels, 10 iterations, 48 neighbours",
            same=difference < 1e-5,
            difference=f"{difference:.1e} at most",
        )
    ]
