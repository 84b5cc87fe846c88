"""What our driver, stages, store and record cost where nothing can be shared, against plain Ray Tune with its MLflow
callback on sqlite; both reuse actors, infer CAMs and search the threshold.

``overhead`` runs sixteen distinct trainings. ``overhead a trial`` runs trivial ones (one epoch of a few small images)
and counts wall seconds a trial beyond the start: the slope between few and many trials, each the median of three runs
because a start alone takes 20 to 40 s, give or take ten.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.measure import Kind, Result
from benchmarks.sides import EQUAL, ROOT, Side, largest_difference, run_ours, run_plain

KIND: Kind = "sweep"
TRAININGS = 16
FEW, MANY = 8, 64
RUNS = 3


def measure() -> list[Result]:
    return [_trainings(), _trivial()]


def _trainings() -> Result:
    ours, plain = _both("overhead.yaml", _rates(TRAININGS))
    return Result(
        "overhead",
        "wall s",
        ours.wall_s,
        plain.wall_s,
        required=0.95,
        input=f"shapes, {TRAININGS} learning rates, 6 epochs, no warm-up: nothing to share; MLflow on sqlite",
        same=largest_difference(ours, plain) < EQUAL,
        difference=f"mIoU differs by {largest_difference(ours, plain):.1g} at most",
    )


def _trivial() -> Result:
    runs = {count: [_both("trivial.yaml", _rates(count)) for _ in range(RUNS)] for count in (FEW, MANY)}
    walls = {
        count: [statistics.median(side.wall_s for side in sides) for sides in zip(*pairs, strict=True)]
        for count, pairs in runs.items()
    }
    ours, plain = ((long - short) / (MANY - FEW) for short, long in zip(walls[FEW], walls[MANY], strict=True))
    difference = max(largest_difference(*pair) for pairs in runs.values() for pair in pairs)
    whole = ", ".join(f"{count} trials {walls[count][0]:.0f} and {walls[count][1]:.0f} s" for count in (FEW, MANY))
    return Result(
        "overhead a trial",
        "wall s a trial",
        ours,
        plain,
        required=1,
        input=f"shapes, one epoch of 8 images of 32 px; slope between {FEW} and {MANY} trials (medians of {RUNS} runs, "
        f"ours and plain: {whole}); MLflow on sqlite",
        same=difference < EQUAL,
        difference=f"mIoU differs by {difference:.1g} at most",
    )


def _both(sweep: str, *overrides: str) -> tuple[Side, Side]:
    path = ROOT / "benchmarks" / sweep
    with tempfile.TemporaryDirectory() as folder:
        return run_ours(path, Path(folder), overrides), run_plain(path, Path(folder), overrides, mlflow=True)


def _rates(count: int) -> str:
    return f"axes={{train.lr: [{', '.join(f'{(index + 1) * 1e-4:.1e}' for index in range(count))}]}}"
