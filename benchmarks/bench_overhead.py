"""What our driver, stages, store and record cost where nothing can be shared, against plain Ray Tune with its MLflow
callback on sqlite; both reuse actors, infer CAMs and search the threshold.

``overhead`` runs eight distinct trainings. ``overhead a trial`` runs trivial ones (one epoch of a few small images)
and counts wall seconds a trial beyond the start: the slope between few and many trials.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import Result
from benchmarks.sides import EQUAL, ROOT, Side, largest_difference, run_ours, run_plain

WALL_TIME = True
FEW, MANY = 8, 64


def measure() -> list[Result]:
    return [_trainings(), _trivial()]


def _trainings() -> Result:
    ours, plain = _both("overhead.yaml", _rates(8))
    return Result(
        "overhead",
        "wall s",
        ours.wall_s,
        plain.wall_s,
        required=0.95,
        input="shapes, 8 learning rates, 6 epochs, no warm-up: nothing to share; MLflow on sqlite on both sides",
        same=largest_difference(ours, plain) < EQUAL,
        difference=f"mIoU differs by {largest_difference(ours, plain):.1g} at most",
    )


def _trivial() -> Result:
    few, many = (_both("trivial.yaml", _rates(count)) for count in (FEW, MANY))
    ours, plain = ((long.wall_s - short.wall_s) / (MANY - FEW) for short, long in zip(few, many, strict=True))
    difference = max(largest_difference(*sides) for sides in (few, many))
    return Result(
        "overhead a trial",
        "wall s a trial",
        ours,
        plain,
        required=1,
        input=f"shapes, one epoch of 8 images of 32 px; slope between {FEW} and {MANY} trials; MLflow on sqlite",
        same=difference < EQUAL,
        difference=f"mIoU differs by {difference:.1g} at most",
    )


def _both(sweep: str, *overrides: str) -> tuple[Side, Side]:
    path = ROOT / "benchmarks" / sweep
    with tempfile.TemporaryDirectory() as folder:
        return run_ours(path, Path(folder), overrides), run_plain(path, Path(folder), overrides, mlflow=True)


def _rates(count: int) -> str:
    return f"axes={{train.lr: [{', '.join(f'{(index + 1) * 1e-4:.1e}' for index in range(count))}]}}"
