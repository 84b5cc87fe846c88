"""A sweep run by our command and by the plain Ray Tune script, both as processes of their own, and what they found."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.artifacts.opening import open_store

ROOT = Path(__file__).resolve().parent.parent
METRIC = "pseudo/miou"
TRAININGS = ("warmup", "train_cam")
EQUAL = 1e-12


@dataclass(frozen=True)
class Side:
    wall_s: float
    """Of the whole command, start of the process included."""
    training_s: float
    """Summed over workers. Ours: of the stored warm-ups and trainings, reading and writing included; theirs: around
    ``Training.run`` alone."""
    miou: dict[tuple[str, int], float]
    """(Point of the axes, seed) -> mIoU of the pseudo-labels."""
    ranking: list[str]
    """Points by mean mIoU over the seeds, best first."""


def run_ours(sweep: Path, folder: Path, overrides: Sequence[str] = ()) -> Side:
    """``python -m orchestrator.sweep`` on an empty folder."""
    runs = folder / "runs"
    sets = [argument for value in (f"runs={runs}", *overrides) for argument in ("--set", value)]
    wall_s, printed = _timed("-m", "orchestrator.sweep", str(sweep), *sets)
    if re.search(r"^tracking: \d+ events wait", printed, re.MULTILINE):
        raise RuntimeError("the sweep ended before all of it was in MLflow")
    (summary_file,) = runs.glob("*/summary.json")
    entries = json.loads(summary_file.read_text(encoding="utf-8"))["ranking"]
    store = open_store(None, runs / "artifacts")
    records = [store.record(key) for key in store.keys()]
    return Side(
        wall_s=wall_s,
        training_s=sum(record.seconds for record in records if record.stage in TRAININGS),
        miou={
            (_point(entry["config"]), int(seed)): metrics[METRIC]
            for entry in entries
            for seed, metrics in entry["per_seed"].items()
        },
        ranking=[_point(entry["config"]) for entry in entries],
    )


def run_plain(sweep: Path, folder: Path, overrides: Sequence[str] = (), *, mlflow: bool = False) -> Side:
    """``benchmarks.plain_tune``; ``mlflow``: with Tune's own callback on sqlite."""
    arguments = [argument for value in overrides for argument in ("--set", value)]
    if mlflow:
        arguments += ["--mlflow", f"sqlite:///{folder / 'plain.db'}"]
    wall_s, printed = _timed("-m", "benchmarks.plain_tune", str(sweep), str(folder / "plain"), *arguments, cwd=folder)
    points = json.loads(printed.splitlines()[-1])
    miou = {}
    for point in points:
        seed = point["config"].pop("seed")
        miou[_point(point["config"]), seed] = point["miou"]
    means = _means(miou)
    return Side(
        wall_s=wall_s,
        training_s=sum(point["seconds"] for point in points),
        miou=miou,
        ranking=sorted(means, key=lambda point: -means[point]),
    )


def largest_difference(ours: Side, plain: Side) -> float:
    """Of the mIoU at any point and seed; infinity where the points differ."""
    if ours.miou.keys() != plain.miou.keys():
        return float("inf")
    return max(abs(ours.miou[key] - plain.miou[key]) for key in ours.miou)


def same_ranking(ours: Side, plain: Side) -> bool:
    """Equal mIoU everywhere, and the same order but for ties."""
    if largest_difference(ours, plain) >= EQUAL:
        return False
    means = _means(plain.miou)
    in_our_order, in_theirs = ([means[point] for point in side.ranking] for side in (ours, plain))
    return all(abs(a - b) < EQUAL for a, b in zip(in_our_order, in_theirs, strict=True))


def _means(miou: Mapping[tuple[str, int], float]) -> dict[str, float]:
    points = dict.fromkeys(point for point, _ in miou)
    return {point: statistics.fmean(value for (own, _), value in miou.items() if own == point) for point in points}


def _timed(*command: str, cwd: Path = ROOT) -> tuple[float, str]:
    """Wall seconds and output of a command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    started = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - started, done.stdout


def _point(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
