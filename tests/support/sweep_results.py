"""Sweeps that look finished: real plans, real stores, records written by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from orchestrator.monitor.state import SweepState
from orchestrator.plan.planner import Planner, TrialPlan, Variant
from orchestrator.preflight.prepare import fingerprints
from orchestrator.reporting.summary import Summary
from orchestrator.reporting.write import write_summary
from orchestrator.results.ranking import Ranked, best_first, measured, unranked
from orchestrator.results.segmentation_jobs import segmentation_jobs
from orchestrator.spec.reader import load_spec
from orchestrator.workspace import Workspace
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore
from workers.stage import Stage

SECONDS = {"warmup": 10.0, "train_cam": 100.0, "infer_cam": 20.0, "pseudo_label": 5.0, "layer_entropy": 7.0,
           "layer_gain": 3.0}  # fmt: skip
SEGMENTATION_SECONDS = {"train_seg": 50.0, "eval_seg": 2.0}
LAYERS = ("none", "all", "shallow", [0, 3])
GRID = """
# Which alpha?
name: grid
runs: {runs}
data: {{name: shapes, image_size: 32, train_images: 4, val_images: 2}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}}
train: {{epochs: 4, warmup_epochs: 2, lr_warmup_epochs: 0, image_size: 32}}
axes:
  method.alpha_low: [0.2, 0.3, 0.4]
  inference.layers: [none, all, shallow, [0, 3]]
seeds: [0, 1]
{more}
"""
Score = Callable[[TrialPlan, Variant], float]


def planner(folder: Path, *overrides: str, more: str = "") -> Planner:
    """Of three alphas, four layer subsets and two seeds."""
    path = folder / "grid.yaml"
    path.write_text(GRID.format(runs=folder / "runs", more=more))
    spec = load_spec(path, overrides)
    return Planner(spec, fingerprints(spec))


def workspace(plan: Planner) -> Workspace:
    return Workspace(store_uri=None, runs=plan.spec.runs_dir, name=plan.spec.name)


def put(
    store: ArtifactStore,
    stage: Stage,
    seconds: float,
    created: str,
    write: Callable[[Path], None] = lambda folder: None,
    **metrics: float,
) -> None:
    """Publish an artifact as a stage leaves it; ``write`` adds files."""
    folder = store.staging()
    history = []
    write(folder)
    if stage.name == "pseudo_label":
        curve = {"thresholds": [0.1, 0.2, 0.3], "curve": [0.2, 0.4, 0.3]}
        (folder / "curve.json").write_text(json.dumps({"refined": curve, "unrefined": curve}))
    if stage.name == "train_cam":
        history = [{"epoch": float(epoch), "val/map": 0.2 * epoch} for epoch in (1, 2, 3, 4)]
    record = ArtifactRecord(
        key=stage.key, stage=stage.name, version=1, config={}, fingerprints={},
        inputs={name: parent.key for name, parent in stage.inputs.items()}, metrics=metrics, history=history,
        seconds=seconds, created=created, code="abc", host="here", versions={},
    )  # fmt: skip
    store.put(stage.key, folder, record)
    shutil.rmtree(folder, ignore_errors=True)


def compute(
    store: ArtifactStore,
    trials: Iterable[TrialPlan],
    score: Score,
    created: str = "2026-01-01T00:00:00+00:00",
    training: Callable[[TrialPlan], dict[str, float]] = lambda trial: {},
) -> None:
    """All stages of the trials, labels with ``score`` as their mIoU, trainings with more metrics than their mAP."""
    for trial in trials:
        for variant in trial.variants:
            for last in variant.stages.all():
                for stage in last.ancestry():
                    metrics = {"val/map": 0.8, **training(trial)} if stage.name == "train_cam" else {}
                    if stage.key == variant.stages.labels.key:
                        metrics = {"pseudo/miou": score(trial, variant), "cam/miou": 0.25}
                    if not store.has(stage.key):
                        put(store, stage, SECONDS[stage.name], created, **metrics)


def alpha_score(trial: TrialPlan, variant: Variant) -> float:
    """Layers matter most, then alpha, then the seed."""
    layers = LAYERS.index(variant.values["inference.layers"])
    return 0.5 - 0.1 * layers + 0.1 * variant.values["method.alpha_low"] + 0.01 * trial.seed


def ranked(plan: Planner, store: ArtifactStore) -> list[Ranked]:
    return best_first(measured(plan.grid(), store, plan.spec.resources.trial), plan.spec.ranked_by)


def summarised(
    plan: Planner, failures: dict[str, str] | None = None, run: SweepState | None = None
) -> tuple[dict[str, Any], Path]:
    """What a sweep that finished wrote: the summary's content and the folder."""
    place = workspace(plan)
    store = place.store()
    ranking = ranked(plan, store)
    jobs = segmentation_jobs(plan, ranking)
    for job in jobs:
        for stage in job.stage.ancestry():
            if not store.has(stage.key):
                metrics = {"seg/miou": 0.6 + 0.1 * job.seed} if stage.name == "eval_seg" else {}
                put(store, stage, SEGMENTATION_SECONDS[stage.name], "2026-01-02T00:00:00+00:00", **metrics)
    place.folder.mkdir(parents=True, exist_ok=True)
    left = unranked(measured(plan.grid(), store), plan.spec.ranked_by.metric)
    summary = Summary(plan.spec, ranking, jobs, failures or {}, plan.fingerprints, run, unranked=left)
    write_summary(summary, place, store)
    return json.loads(place.summary_file.read_text()), place.folder


def finished_grid(folder: Path) -> tuple[dict[str, Any], Path]:
    """(content, folder) of twelve configurations at two seeds, a segmenter on the best two, written there."""
    plan = planner(folder, more="segmentation: {select: {top: 2}}")
    store = workspace(plan).store()
    compute(store, plan.grid()[:2], alpha_score, created="2025-01-01T00:00:00+00:00")
    compute(store, plan.grid(), alpha_score, created="2026-01-02T00:00:00+00:00")
    run = SweepState(folder / "state.json", "grid", clock=lambda: 1767225600.5)  # 2026-01-01
    for trial in plan.grid():
        run.add(trial.key, trial.title, "trial", 4)
    for trial in plan.grid()[:2]:
        run.update(trial.key, cached=True, status="done")
    return summarised(plan, {"train_cam-0": "out of memory"}, run)
