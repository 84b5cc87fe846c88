"""An alphas x lambda x layers x seeds sweep: stages shared, against a plain Ray Tune script that trains every point.

Eight of ten epochs are warm-up, which no alpha or lambda touches: the share that makes sharing pay is stated with the
result.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from benchmarks.measure import Kind, Result
from benchmarks.sides import ROOT, largest_difference, run_ours, run_plain, same_ranking

KIND: Kind = "sweep"


def measure() -> list[Result]:
    sweep = ROOT / "benchmarks" / "sharing.yaml"
    with tempfile.TemporaryDirectory() as folder:
        ours = run_ours(sweep, Path(folder))
        plain = run_plain(sweep, Path(folder))
    result = functools.partial(
        Result,
        input=f"shapes, {len(plain.miou)} trainings of the plain script (2 alphas x 2 lambdas x 4 layer subsets x "
        "2 seeds), 10 epochs, 8 of them warm-up",
        same=same_ranking(ours, plain),
        difference=f"mIoU differs by {largest_difference(ours, plain):.1g} at most",
    )
    return [
        result("sharing", "wall s", ours.wall_s, plain.wall_s, required=3),
        result("sharing training", "training s", ours.training_s, plain.training_s, required=4),
    ]
