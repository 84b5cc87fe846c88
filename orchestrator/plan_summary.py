"""What ``--plan`` says: the tree of stages, what of it is stored, and what the rest costs, before anything runs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from orchestrator.plan import Planner, TrialPlan, show
from orchestrator.progress import duration
from workers.artifacts.lineage import readable_records
from workers.artifacts.store import ArtifactStore
from workers.stage import Stage

LABELS = "pseudo_label"
MEASURED = 50
"""Stored stages of one kind that an estimate is made from, at most."""


@dataclass(frozen=True)
class StageRow:
    key: str
    stage: str
    shared_by: int
    """Trials that need it."""
    stored: bool
    inputs: list[str]


@dataclass(frozen=True)
class PlanSummary:
    """The plan as ``--plan --json`` prints it."""

    name: str
    trainings: int
    variants: int
    stages: list[StageRow]
    estimate: dict[str, Any]
    search: dict[str, Any] | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)
    segmentation_jobs: int = 0
    """At most: as many as are selected, at every seed and point of the segmentation axes."""


def summarise(planner: Planner, store: ArtifactStore) -> PlanSummary:
    """Everything known before running: for a search only the number of trainings, for a grid every stage."""
    spec = planner.spec
    trials = planner.corners() if spec.search else planner.grid()
    counts = Counter(stage.key for trial in trials for stage in trial.stages())
    ordered = {stage.key: stage for trial in trials for stage in trial.stages()}
    rows = [
        StageRow(key, stage.name, counts[key], store.has(key), [parent.key for parent in stage.inputs.values()])
        for key, stage in ordered.items()
    ]
    found = sum(
        stage.name == "train_cam" and stage.key in {trial.key for trial in trials} for stage in ordered.values()
    )
    trainings = spec.search.trials * len(spec.seeds) if spec.search else found
    at_most = max((len(trial.variants) for trial in trials), default=0)
    variants = trainings * at_most if spec.search else sum(len(trial.variants) for trial in trials)
    selected = spec.segmentation.select.top * len(spec.seeds) if spec.segmentation else 0
    return PlanSummary(
        name=spec.name,
        trainings=trainings,
        variants=variants,
        stages=[] if spec.search else rows,
        estimate=_estimate(trials, {row.key for row in rows if row.stored}, store, spec.resources.trial.gpus),
        search={"algorithm": spec.search.algorithm, "trials": spec.search.trials} if spec.search else None,
        trials=[
            {"key": trial.key, "values": trial.values, "seed": trial.seed, "variants": len(trial.variants)}
            for trial in trials
        ],
        segmentation_jobs=selected * len(spec.segmentation_points()) if spec.segmentation else 0,
    )


def _estimate(trials: Sequence[TrialPlan], stored: set[str], store: ArtifactStore, gpu: float) -> dict[str, Any]:
    """Seconds and bytes from what stored stages of the same kind took; null where none has run yet.

    ``seconds`` is what the trials still have to run, ``grid_seconds`` what one process a grid point would cost:
    every variant with a training of its own. Segmentation jobs are in neither.
    """
    stages = {stage.key: stage for trial in trials for stage in trial.stages()}
    seconds, sizes = _means(store)
    names = sorted({stage.name for stage in stages.values()})
    missing = [name for name in names if name not in seconds]
    left = [stage for key, stage in stages.items() if key not in stored]
    leaves = [variant.stages.labels for trial in trials for variant in trial.variants]
    grid = [ancestor for leaf in leaves for ancestor in leaf.ancestry()]

    def total(chosen: Iterable[Stage], means: Mapping[str, float]) -> float | None:
        return None if missing else round(sum(means[stage.name] for stage in chosen), 1)

    own, plain = total(left, seconds), total(grid, seconds)
    return {
        "stage_seconds": {name: round(seconds[name], 1) for name in names if name in seconds},
        "unknown_stages": missing,
        "seconds": own,
        "grid_seconds": plain,
        "gpu_hours": None if own is None else round(own * gpu / 3600, 3),
        "grid_gpu_hours": None if plain is None else round(plain * gpu / 3600, 3),
        "bytes": total(left, sizes),
    }


def _means(store: ArtifactStore) -> tuple[dict[str, float], dict[str, float]]:
    """Mean seconds and bytes of a stored stage, by kind."""
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for record in readable_records(store):
        if len(seconds.setdefault(record.stage, [])) < MEASURED:
            seconds[record.stage].append(record.seconds)
            sizes.setdefault(record.stage, []).append(record.size)
    means = [{name: sum(values) / len(values) for name, values in known.items()} for known in (seconds, sizes)]
    return means[0], means[1]


def print_plan(plan: PlanSummary, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(plan), indent=1))
        return
    console = Console(width=None if os.isatty(1) else 160, highlight=False)
    jobs = f", at most {plan.segmentation_jobs} segmentation jobs" if plan.segmentation_jobs else ""
    console.print(f"{plan.name}: {plan.trainings} trainings, {plan.variants} variants{jobs}")
    if plan.search:
        console.print(f"search: {plan.search['algorithm']}, {plan.search['trials']} points")
    titles = {
        trial["key"]: ", ".join(
            [*(f"{key}={show(value)}" for key, value in trial["values"].items()), f"seed={trial['seed']}"]
        )
        for trial in plan.trials
    }
    if plan.search:
        for key, title in titles.items():
            console.print(escape(f"  an end of the axes: {key}  {title}"))
    for row in plan.stages:
        if not row.inputs:
            console.print(_tree(row, plan.stages, titles))
    stored = sum(row.stored for row in plan.stages)
    if plan.stages:
        console.print(f"{len(plan.stages)} stages, {stored} stored, {len(plan.stages) - stored} to run")
    for line in _cost(plan.estimate):
        console.print(line)


def _tree(row: StageRow, rows: Sequence[StageRow], titles: Mapping[str, str]) -> Tree:
    """A stage and what is computed from it; a stage of two inputs stands under the first."""
    shared = f"  shared by {row.shared_by} trials" if row.shared_by > 1 else ""
    title = f"  {titles[row.key]}" if row.key in titles else ""
    tree = Tree(escape(f"{row.key}{title}{shared}{'  stored' if row.stored else ''}"))
    for child in rows:
        if child.inputs and child.inputs[0] == row.key:
            tree.add(_tree(child, rows, titles))
    return tree


def _cost(estimate: Mapping[str, Any]) -> list[str]:
    if estimate["seconds"] is None:
        return [f"estimate: unknown, no stored {', '.join(estimate['unknown_stages'])} to measure by"]
    seconds, grid = estimate["seconds"], estimate["grid_seconds"]
    lines = [
        f"estimate: {duration(seconds)} of worker time; a training for every grid point would take {duration(grid)}"
    ]
    if estimate["grid_gpu_hours"]:
        lines.append(f"GPU hours: {estimate['gpu_hours']:g}, against {estimate['grid_gpu_hours']:g}")
    return [*lines, f"disk: {estimate['bytes'] / 1e6:.1f} MB more in the store"]
