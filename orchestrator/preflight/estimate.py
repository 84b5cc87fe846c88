"""Estimate the cost of a planned sweep from the durations and sizes of stored stages of the same kind."""

from __future__ import annotations

import functools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aream.config import canonical
from orchestrator.monitor.forecast import expected_tasks
from orchestrator.plan.planner import Planner, TrialPlan, shared_stages
from workers.artifacts.lineage import readable_records
from workers.artifacts.store import ArtifactStore
from workers.pipelines import segmentation_stage
from workers.stage import Stage

MEASURED = 50
"""Stored stages of one kind, on one dataset and network, that an estimate is made from, at most."""
SETUP = ("data", "backbone", "model")
"""Sections of a stage's configuration by which records are told apart: its dataset and network."""
Length = tuple[str, int]
"""Length of a training: its unit, ``epochs`` or ``iterations``, and the number of them."""
Work = Mapping[str, float]
"""Key of a stage -> how many like it run."""


@dataclass(frozen=True)
class MeasuredStage:
    """Duration, size and training length of a stored stage."""

    seconds: float
    size: int
    length: Length | None


@dataclass(frozen=True)
class Price:
    """Expected duration and size of a planned stage."""

    seconds: float
    size: float
    records: int
    same: bool
    """True if those records have the same dataset and network, as far as the stage reads them itself."""
    scaled: bool | None
    """True if seconds were scaled to the length of the training; None: no training."""


def estimate(
    planner: Planner,
    trials: Sequence[TrialPlan],
    stored: set[str],
    store: ArtifactStore,
    begun: dict[str, Stage],
    proposals: int,
) -> dict[str, Any]:
    """Seconds and bytes from what stored stages of the same kind took; null where none has run yet.

    ``seconds`` is what the trials still have to run, ``grid_seconds`` what one process a grid point would cost:
    every variant with a training of its own. Segmentation jobs are in neither but in ``segmentation``. A search is
    what is left of the points it knows, and for those it will propose the trials at the axis bounds, repeated;
    null where none is possible there.

    Args:
        begun: stages of the points that a search knows already, by key.
        proposals: points that a search will propose.
    """
    spec, measured = planner.spec, _measurements(store)
    stages = {stage.key: stage for trial in trials for stage in trial.stages()} | begun
    per_point = len(spec.seeds) / len(trials) if spec.search and trials else 0.0
    left = Counter({key: 1.0 for key in (begun if spec.search else stages) if key not in stored})
    if proposals and trials:
        left.update(_search_work(trials, stored | begun.keys(), proposals * per_point))
    repeats = spec.search.trials * per_point if spec.search else 1.0
    leaves = [variant.stages.labels for trial in trials for variant in trial.variants]
    grid = {key: times * repeats for key, times in Counter(a.key for leaf in leaves for a in leaf.ancestry()).items()}
    jobs = _segmentation_work(planner, trials)
    both = stages | {stage.key: stage for stage, _ in jobs}
    priced = functools.cache(lambda name, setup, length: _price(measured[name], setup, length))
    prices = {
        key: priced(stage.name, *_like(stage.name, canonical(stage.config), stage.fingerprints))
        for key, stage in both.items()
        if stage.name in measured
    }

    def total(work: Work, needed: Iterable[Stage], gpus: float) -> dict[str, Any]:
        missing = sorted({stage.name for stage in needed} - measured.keys())
        if missing or not trials:
            return {"unknown_stages": missing, "seconds": None, "gpu_hours": None, "bytes": None}
        seconds = round(sum(times * prices[key].seconds for key, times in work.items()), 1)
        size = round(sum(times * prices[key].size for key, times in work.items()), 1)
        return {"unknown_stages": [], "seconds": seconds, "gpu_hours": round(seconds * gpus / 3600, 3), "bytes": size}

    by_name: dict[str, list[Price]] = {}
    for key, price in prices.items():
        by_name.setdefault(both[key].name, []).append(price)
    own, plain = (total(work, stages.values(), spec.resources.trial.gpus) for work in (left, grid))
    later = {stage.key: times for stage, times in jobs}
    segmentation = total(later, [stage for stage, _ in jobs], spec.resources.segmentation.gpus)
    return {
        **own,
        "grid_seconds": plain["seconds"],
        "grid_gpu_hours": plain["gpu_hours"],
        "stage_seconds": {
            name: round(statistics.fmean(price.seconds for price in found), 1)
            for name, found in sorted(by_name.items())
        },
        "measured_by": {name: _source(found) for name, found in sorted(by_name.items())},
        "segmentation": segmentation if spec.segmentation else None,
    }


def _search_work(trials: Sequence[TrialPlan], stored: set[str], repeats: float) -> Work:
    """Stages that a search's new points will run, judged by the trials at the axis bounds: stages that these share
    count once, the others for every trial and as if not stored, since the points are not known yet."""
    shared = {stage.key for stage in shared_stages(trials)}
    common = [{stage.key for stage in trial.train.ancestry()} & shared - {trial.key} for trial in trials]
    work = dict.fromkeys(sorted(set().union(*common) - stored), 1.0)
    for trial, before in zip(trials, common, strict=True):
        for stage in trial.stages():
            if stage.key not in before:
                work[stage.key] = work.get(stage.key, 0.0) + repeats
    return work


def _segmentation_work(planner: Planner, trials: Sequence[TrialPlan]) -> list[tuple[Stage, float]]:
    """Upper bound: the best labels are not known yet, so the first variant's stand for all; none counts as stored."""
    spec = planner.spec
    if spec.segmentation is None or not trials:
        return []
    variant, points = trials[0].variants[0], spec.segmentation_points()
    trial, times = spec.trial(variant.values, trials[0].seed), expected_tasks(spec)["segmentation"] / len(points)
    tests = [
        segmentation_stage(
            spec.segmentation_config(point),
            trial,
            variant.stages.labels,
            planner.fingerprint,
            planner.hardware("segmentation"),
        )
        for point in points
    ]
    return [(stage, times) for test in tests for stage in (test.inputs["segmenter"], test)]


def _measurements(store: ArtifactStore) -> dict[str, dict[str, list[MeasuredStage]]]:
    """Measurements of stored stages, by kind, then by dataset and network."""
    known: dict[str, dict[str, list[MeasuredStage]]] = {}
    for record in readable_records(store):
        setup, length = _like(record.stage, record.config, record.fingerprints)
        same = known.setdefault(record.stage, {}).setdefault(setup, [])
        if len(same) < MEASURED:
            same.append(MeasuredStage(record.seconds, record.size, length))
    return known


def _like(name: str, config: Mapping[str, Any], fingerprints: Mapping[str, str]) -> tuple[str, Length | None]:
    """Dataset and network of a stage as text, and the length of its training; None: no training, or not known."""
    train = config.get("train", {})
    evaluated = ["evaluated alone"] if train.get("epochs") == 0 else []
    setup = json.dumps([fingerprints.get("data"), *(config.get(part) for part in SETUP), *evaluated], sort_keys=True)
    if train.get("iterations"):
        return setup, ("iterations", train["iterations"])
    warmup = train.get("warmup_epochs", 0)  # a training goes on from its warm-up
    epochs = warmup if name == "warmup" else train.get("epochs", 0) - warmup
    return setup, ("epochs", epochs) if epochs > 0 else None


def _price(known: Mapping[str, Sequence[MeasuredStage]], setup: str, length: Length | None) -> Price:
    """Mean duration and size of stored stages of one kind: with the same dataset and network if any, else of all."""
    chosen = known.get(setup) or [measured for others in known.values() for measured in others]
    scaled = [
        (measured, length[1] / measured.length[1])
        for measured in chosen
        if length and measured.length and measured.length[0] == length[0]
    ]
    factors = scaled or [(measured, 1.0) for measured in chosen]
    return Price(
        seconds=statistics.fmean(measured.seconds * factor for measured, factor in factors),
        size=statistics.fmean(measured.size for measured, _ in factors),
        records=len(factors),
        same=setup in known,
        scaled=bool(scaled) if length else None,
    )


def _source(prices: Sequence[Price]) -> dict[str, Any]:
    """Origin of the seconds of one kind of stage; of several prices, only what holds for all."""
    return {
        "records": min(price.records for price in prices),
        "same_data_and_network": all(price.same for price in prices),
        "scaled_by_length": None if prices[0].scaled is None else all(price.scaled for price in prices),
    }
