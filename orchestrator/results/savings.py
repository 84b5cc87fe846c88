"""A sweep's cost, its cost without sharing of stages, and the part it found in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from orchestrator.monitor.state import SweepState
from orchestrator.results.ranking import Ranked
from orchestrator.results.records import Records, lineage_cost
from orchestrator.spec.metrics import GPU_SECONDS, SECONDS
from orchestrator.spec.settings import Resources
from workers.artifacts.record import ArtifactRecord
from workers.stage import Stage


def sweep_cost(
    ranking: Sequence[Ranked], jobs: Sequence[Stage], records: Records, resources: Resources
) -> dict[str, float]:
    """Worker seconds behind the ranked labels and the segmenters.

    ``seconds`` counts each distinct stage once; ``separate_seconds`` is one training a configuration and seed, each
    with everything it needs for itself. Only what finished has a record: trainings stopped or failed are in neither.
    """
    variants = [variant.stages.all() for entry in ranking for variant in entry.variants.values()]
    labels = lineage_cost([stage for stages in variants for stage in stages], records, resources.trial)
    separate = [lineage_cost(stages, records, resources.trial) for stages in variants]
    everything = [stage for stages in variants for stage in stages] + list(jobs)
    segmentation = lineage_cost(everything, records, resources.segmentation)[SECONDS] - labels[SECONDS]
    return {
        "seconds": round(labels[SECONDS], 1),
        "gpu_seconds": round(labels[GPU_SECONDS], 1),
        "separate_seconds": round(sum(cost[SECONDS] for cost in separate), 1),
        "separate_gpu_seconds": round(sum(cost[GPU_SECONDS] for cost in separate), 1),
        "segmentation_seconds": round(segmentation, 1),
        "segmentation_gpu_seconds": round(segmentation * resources.segmentation.gpus, 1),
    }


def stored_before(run: SweepState, stages: Iterable[Stage], records: Records) -> dict[str, Any]:
    """The part of this run that came from the store: whole tasks, and stages with the seconds they saved."""
    kinds: dict[str, dict[str, int]] = {}
    for task in run.tasks.values():
        counts = kinds.setdefault(task.kind, {"stored": 0, "all": 0})
        counts["stored"] += task.cached
        counts["all"] += 1
    keys = {ancestor.key for stage in stages for ancestor in stage.ancestry() if records.has(ancestor.key)}
    found = [records.record(key) for key in sorted(keys)]
    stored = [record for record in found if from_earlier(record, run.started)]
    return {
        "tasks": kinds,
        "stages": {"stored": len(stored), "all": len(found)},
        "saved_seconds": round(sum(record.seconds for record in stored), 1),
    }


def from_earlier(record: ArtifactRecord, started: float) -> bool:
    """True if a stage was stored before a run began; records hold whole seconds."""
    return datetime.fromisoformat(record.created).timestamp() < int(started)
