"""The sweep's use of ground-truth masks: how thresholds are set, what is scored, which labels come from outside."""

from __future__ import annotations

from collections.abc import Iterator

from aream import discover
from aream.config import Component
from aream.data.evidence import Use
from aream.labels.pseudo_labels import SEARCHED, WITHOUT_MASKS
from orchestrator.spec.spec import SweepSpec
from workers import stages
from workers.trial import TrialConfig

OF_TRAIN_MASKS = ("pseudo/miou", "cam/miou", "layer/")
"""Prefixes of the metrics that are computed from masks of train images."""


def use_of(spec: SweepSpec) -> Use:
    """Summarize how the sweep uses the masks of the datasets it reads."""
    if not trains_hosts(spec):
        return Use(scored=("segmentation",))
    rules = list(dict.fromkeys(trial.labels.rule for trial in label_points(spec)))
    searched = [f"labels.background_threshold: {rule}" for rule in rules if rule in SEARCHED]
    advice = [WITHOUT_MASKS] if searched else []
    searched += [f"analyses: {one.name}" for one in spec.analyses if _needs_masks(one)]
    compared = [f"rank.metric: {spec.rank.metric}"]
    compared += [f"search.objectives: {one.metric}" for one in (spec.search.objectives if spec.search else ())]
    scored = [key for key in dict.fromkeys(compared) if key.partition(": ")[2].startswith(OF_TRAIN_MASKS)]
    advice += ["rank.metric: val/map needs none either"] if scored else []
    return Use(
        searched=(*searched, *scored),
        held_out="held_out" in rules,
        scored=("segmentation",) if spec.segmentation_data is not None else (),
        instead=tuple(advice),
    )


def trains_hosts(spec: SweepSpec) -> bool:
    """False where segmenters are trained on labels made elsewhere alone, and nothing asks about hosts."""
    if spec.segmentation_data is None or spec.axes or spec.search is not None or spec.analyses:
        return True
    return any(spec.segmentation_config(point).labels is None for point in spec.segmentation_points())


def label_points(spec: SweepSpec) -> Iterator[TrialConfig]:
    """A trial of every combination of what decides about labels."""
    for values in spec.points_of([axis.key for axis in spec.axes if axis.key.split(".")[0] == "labels"]):
        yield spec.trial(values, spec.seeds[0])


def label_folders(spec: SweepSpec) -> list[str]:
    """Folders of pseudo-labels made elsewhere that segmenters are trained on."""
    if spec.segmentation_data is None:
        return []
    configs = [spec.segmentation_config(point) for point in spec.segmentation_points()]
    return list(dict.fromkeys(config.labels for config in configs if config.labels is not None))


def _needs_masks(analysis: Component) -> bool:
    return bool(getattr(discover.load(stages, analysis.name), "NEEDS_TRAIN_MASKS", False))
