"""Output of ``--plan``: the tree of stages, which are stored, and the expected cost of the rest."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from orchestrator.monitor.forecast import expected_tasks
from orchestrator.plan.banks import banks
from orchestrator.plan.planner import Planner
from orchestrator.plan.why import reasons
from orchestrator.preflight.estimate import estimate
from orchestrator.results.origins import by_other_code, other_code_sentence
from orchestrator.results.records import RememberedRecords
from orchestrator.search.record import STOPPED, Recorded
from orchestrator.spec.metric_checks import remarks
from orchestrator.text import duration, many
from workers.artifacts.lineage import readable_records
from workers.artifacts.store import ArtifactStore


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
    remarks: list[str] = field(default_factory=list)
    """Warnings about settings that are allowed but seldom meant."""
    other_code: dict[str, int] = field(default_factory=dict)
    """Stage name -> how many are stored that other code computed."""
    why: dict[str, str] | None = None
    """Key of each stage to run -> what tells it from the nearest stored result of its kind, where that was asked."""
    banks: list[int] = field(default_factory=list)
    """Trainings to run of each process that trains several."""
    more_banks: bool = False
    """True where the cluster's slots may want them smaller."""
    segmentation_jobs: int = 0
    """Upper bound: the selected variants, at every seed and point of the segmentation axes."""


def summarise(
    planner: Planner, store: ArtifactStore, recorded: Sequence[Recorded] = (), *, why: bool = False
) -> PlanSummary:
    """Everything known before running: for a grid every stage, for a search the number of trainings and what is left
    of the points ``recorded`` by earlier runs.

    Args:
        why: whether to say of each stage to run why it is not stored.
    """
    spec = planner.spec
    trials = planner.corners() if spec.search else planner.grid()
    points = recorded[: spec.search.trials] if spec.search else ()
    begun = {
        stage.key: stage
        for point in points
        if point.outcome != STOPPED  # such a trial is not taken up again
        for seed in spec.seeds
        for stage in planner.trial(point.values, seed).stages()
    }
    proposals = spec.search.trials - len(points) if spec.search else 0
    counts = Counter(stage.key for trial in trials for stage in trial.stages())
    ordered = {stage.key: stage for trial in trials for stage in trial.stages()}
    records = RememberedRecords(store)
    stored = records.present(ordered | begun)
    rows = [
        StageRow(key, stage.name, counts[key], key in stored, [parent.key for parent in stage.inputs.values()])
        for key, stage in ordered.items()
    ]
    left = [] if spec.search else [trial for trial in trials if trial.key not in stored]
    missing = [stage for key, stage in ordered.items() if key not in stored]
    found = sum(
        stage.name == "train_cam" and stage.key in {trial.key for trial in trials} for stage in ordered.values()
    )
    trainings = spec.search.trials * len(spec.seeds) if spec.search else found
    at_most = max((len(trial.variants) for trial in trials), default=0)
    variants = trainings * at_most if spec.search else sum(len(trial.variants) for trial in trials)
    return PlanSummary(
        name=spec.name,
        trainings=trainings,
        variants=variants,
        stages=[] if spec.search else rows,
        estimate=estimate(planner, trials, stored, store, begun, proposals),
        search={"algorithm": spec.search.algorithm, "trials": spec.search.trials, "known": len(points)}
        if spec.search
        else None,
        trials=[
            {
                "key": trial.key,
                "title": trial.title,
                "values": trial.values,
                "seed": trial.seed,
                "variants": len(trial.variants),
            }
            for trial in trials
        ],
        remarks=remarks(spec),
        other_code=by_other_code((ordered | begun).values(), records),
        why={one.key: one.words for one in reasons(missing, readable_records(store))} if why else None,
        banks=[len(group) for group in banks(left, spec.resources.trial.most_in_a_bank)],
        more_banks=spec.resources.trial.bank == "auto",
        segmentation_jobs=expected_tasks(spec).get("segmentation", 0),
    )


def print_plan(plan: PlanSummary, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(plan), indent=1))
        return
    console = Console(width=None if os.isatty(1) else 160, highlight=False)
    jobs = f", at most {many(plan.segmentation_jobs, 'segmentation job')}" if plan.segmentation_jobs else ""
    variants = "variants unknown" if plan.search and not plan.trials else many(plan.variants, "variant")
    console.print(f"{plan.name}: {many(plan.trainings, 'training')}, {variants}{jobs}")
    if plan.search:
        known = f", {plan.search['known']} of them from earlier runs" if plan.search["known"] else ""
        console.print(f"search: {plan.search['algorithm']}, {many(plan.search['trials'], 'point')}{known}")
    titles = {trial["key"]: trial["title"] for trial in plan.trials}
    if plan.search:
        for key, title in titles.items():
            console.print(escape(f"  trial at the axis bounds: {key}  {title}"))
    below: dict[str, list[StageRow]] = {}
    for row in plan.stages:
        below.setdefault(row.inputs[0] if row.inputs else "", []).append(row)
    for row in below.get("", []):
        console.print(_tree(row, below, titles))
    stored = sum(row.stored for row in plan.stages)
    if plan.stages:
        console.print(f"{many(len(plan.stages), 'stage')}, {stored} stored, {len(plan.stages) - stored} to run")
    if plan.banks:
        console.print(
            f"{many(sum(plan.banks), 'training')} in {many(len(plan.banks), 'bank')}"
            f"{' or more' if plan.more_banks else ''}, at most {max(plan.banks)} in one process"
        )
    for key, words in (plan.why or {}).items():
        console.print(f"why {key}: {words}", markup=False, soft_wrap=True)
    for remark in [*plan.remarks, *filter(None, [other_code_sentence(plan.other_code)])]:
        console.print(f"note: {remark}", markup=False)
    for line in _cost(plan):
        console.print(line)


def _tree(row: StageRow, below: Mapping[str, Sequence[StageRow]], titles: Mapping[str, str]) -> Tree:
    """A stage and what is computed from it; a stage of two inputs stands under the first, as ``below`` has it."""
    shared = f"  shared by {row.shared_by} trials" if row.shared_by > 1 else ""
    title = f"  {titles[row.key]}" if row.key in titles else ""
    tree = Tree(escape(f"{row.key}{title}{shared}{'  stored' if row.stored else ''}"))
    for child in below.get(row.key, ()):
        tree.add(_tree(child, below, titles))
    return tree


def _cost(plan: PlanSummary) -> Iterator[str]:
    trials, segmentation = plan.estimate, plan.estimate["segmentation"]
    if not plan.trials and plan.search:
        yield "estimate: unknown, only points within the axes' ranges can meet the constraints"
        return
    if trials["seconds"] is None:
        yield f"estimate: unknown, {_unmeasured(trials)}"
    else:
        seconds, grid = duration(trials["seconds"]), duration(trials["grid_seconds"])
        yield f"estimate: {seconds} of worker time; a training for every grid point would take {grid}"
        if trials["grid_gpu_hours"]:
            yield f"GPU hours: {trials['gpu_hours']:g}, against {trials['grid_gpu_hours']:g}"
        yield f"disk: {trials['bytes'] / 1e6:.1f} MB more in the store"
        if plan.search:
            yield f"every trial of a new point is priced as the mean of the {len(plan.trials)} above"
    if segmentation is not None:
        gpu = f", {segmentation['gpu_hours']:g} GPU hours" if segmentation["gpu_hours"] else ""
        if segmentation["seconds"] is None:
            cost = f"unknown, {_unmeasured(segmentation)}"
        else:
            cost = f"at most {duration(segmentation['seconds'])}{gpu}, {segmentation['bytes'] / 1e6:.1f} MB"
        yield f"segmentation, not counted above: {cost}"
    yield from _sources(trials["measured_by"])


def _unmeasured(cost: Mapping[str, Any]) -> str:
    return f"no stored {', '.join(cost['unknown_stages'])} to estimate from"


def _sources(measured_by: Mapping[str, Any]) -> Iterator[str]:
    for same, whose in ((True, "the same data and network"), (False, "other data or networks")):
        found = [
            f"{name} ({source['records']}{', not scaled by epochs' if source['scaled_by_length'] is False else ''})"
            for name, source in measured_by.items()
            if source["same_data_and_network"] is same
        ]
        if found:
            yield f"measured by stored stages of {whose}: {', '.join(found)}"
