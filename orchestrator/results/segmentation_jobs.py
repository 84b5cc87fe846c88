"""Choose the label artifacts that train a segmenter, and its settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.plan.planner import Planner
from orchestrator.results.ranking import Ranked
from orchestrator.spec.axes import shown
from orchestrator.spec.selection import group_of
from workers.pipelines import external_labels_stage, segmentation_stage
from workers.stage import Stage

if TYPE_CHECKING:
    from orchestrator.spec.spec import SweepSpec
    from workers.trial import Selection


@dataclass(frozen=True)
class SegmentationJob:
    stage: Stage
    """``eval_seg``; its input trains."""
    labels: Stage
    title: str
    rank: int | None
    """Position of the labels' configuration, from 0; None for labels made elsewhere."""
    seed: int
    trial_key: str | None
    point: str
    """Values of the segmentation axes, as text."""


def segmentation_jobs(planner: Planner, ranking: Sequence[Ranked]) -> list[SegmentationJob]:
    """The best configurations' labels (or those made elsewhere), at every seed and point of the segmentation axes."""
    spec = planner.spec
    if spec.segmentation is None:
        return []
    jobs: dict[str, SegmentationJob] = {}
    hardware = planner.hardware("segmentation")
    for point in spec.segmentation_points():
        config = spec.segmentation_config(point)
        text = ", ".join(f"{key}={value}" for key, value in shown(point, spec.segmentation_axes).items())
        if config.labels is not None:
            labels = external_labels_stage(config.labels, spec.base.data, planner.fingerprint)
            for seed in spec.seeds:
                stage = segmentation_stage(config, spec.trial({}, seed), labels, planner.fingerprint, hardware)
                title = f"labels from {config.labels}, seed={seed}{', ' + text if text else ''}"
                jobs[stage.key] = SegmentationJob(stage, labels, title, None, seed, None, text)
            continue
        for position, entry in selected(spec, config.select, ranking):
            for seed, variant in entry.variants.items():
                trial = spec.trial(variant.values, seed)
                stage = segmentation_stage(config, trial, variant.stages.labels, planner.fingerprint, hardware)
                title = f"#{position + 1} {entry.title}, seed={seed}{', ' + text if text else ''}"
                jobs.setdefault(
                    stage.key,
                    SegmentationJob(stage, variant.stages.labels, title, position, seed, entry.trial_keys[seed], text),
                )
    return list(jobs.values())


def selected(spec: SweepSpec, selection: Selection, ranking: Sequence[Ranked]) -> list[tuple[int, Ranked]]:
    """Return the selected entries with their positions in the ranking, from 0."""
    taken: Counter[str] = Counter()
    found = []
    for position, entry in enumerate(ranking):
        group = group_of(spec, selection, entry.config)
        taken[group] += 1
        if taken[group] <= selection.top:
            found.append((position, entry))
    return found
