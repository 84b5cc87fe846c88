"""PSA's random walk: 2^logt products with shifted views, against the dense transition matrix squared logt times."""

from __future__ import annotations

import torch

from aream.affinity_net.random_walk import random_walk
from benchmarks.measure import Kind, Result, cpu_seconds
from benchmarks.published import psa_walk

KIND: Kind = "cpu"
HEIGHT, WIDTH = 47, 63


def measure() -> list[Result]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(21, HEIGHT, WIDTH, generator=generator)
    affinities = (-torch.rand(34, HEIGHT - 4, WIDTH - 8, generator=generator)).exp()
    found: dict[str, torch.Tensor] = {}

    def ours() -> None:
        found["ours"] = random_walk(affinities[None], maps[None], beta=8.0, logt=6)[0]

    def baseline() -> None:
        found["baseline"] = psa_walk(affinities, maps, beta=8.0, logt=6)

    ours()
    spent, base = cpu_seconds(ours, baseline, repeats=3)
    difference = (found["ours"] - found["baseline"]).abs().max().item()
    return [
        Result(
            name="random_walk",
            unit="CPU s",
            ours=spent,
            baseline=base,
            required=20,
            input=f"1 image 375x500 ({HEIGHT}x{WIDTH} positions), 21 channels, beta 8, 64 steps",
            same=difference < 1e-4,
            difference=f"{difference:.1e} at most",
        )
    ]
