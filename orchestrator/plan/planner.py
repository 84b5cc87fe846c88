"""Plan what a sweep will run: distinct trainings, the variants inside them, and the stages they share."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aream.config import Component
from orchestrator.spec.axes import Values, shown
from orchestrator.spec.data_use import trains_hosts
from orchestrator.spec.settings import Resource
from orchestrator.spec.spec import SweepSpec
from workers.pipelines import VariantStages, training_stage, variant_stages
from workers.processes.hardware import Hardware
from workers.stage import Stage


@dataclass(frozen=True)
class Variant:
    """One way to turn a training into pseudo-labels."""

    values: Values
    """Values of all axes, training and variant ones."""
    shown: Mapping[str, str]
    """The same as short texts."""
    stages: VariantStages


@dataclass(frozen=True)
class TrialPlan:
    """One distinct training and everything evaluated from it."""

    values: Values
    """Values of the training axes."""
    shown: Mapping[str, str]
    """The same as short texts."""
    seed: int
    train: Stage
    variants: tuple[Variant, ...]
    merged: tuple[Values, ...] = ()
    """Other points of the training axes with the same training, whose variants it has too."""

    @property
    def key(self) -> str:
        return self.train.key

    @property
    def title(self) -> str:
        shown = ", ".join(f"{key}={text}" for key, text in self.shown.items())
        return f"{shown or 'base'}, seed={self.seed}"

    def stages(self) -> Iterator[Stage]:
        """Every stage the trial needs, inputs before what needs them, each key once."""
        seen: set[str] = set()
        for variant in self.variants:
            for last in variant.stages.all():
                for stage in last.ancestry():
                    if stage.key not in seen:
                        seen.add(stage.key)
                        yield stage


@dataclass(frozen=True)
class Planner:
    """Turns points of the training axes into trials; picklable, so a worker plans the same trial as the driver."""

    spec: SweepSpec
    fingerprints: Mapping[str, str]
    """Dataset component (as its canonical text) -> content fingerprint."""
    auto_gpu: frozenset[str] = frozenset()
    """Jobs that get a GPU where the sweep file leaves that to the cluster."""

    def fingerprint(self, component: Component) -> str:
        return self.fingerprints[repr(component)]

    def hardware(self, job: str) -> Hardware:
        """The device and threads that stages of a ``trial`` or a ``segmentation`` job run on."""
        resource: Resource = getattr(self.spec.resources, job)
        on_gpu = job in self.auto_gpu if resource.gpu == "auto" else resource.gpus > 0
        return Hardware("cuda" if on_gpu else "cpu", resource.threads)

    def trial(self, values: Mapping[str, Any], seed: int, merged: Sequence[Mapping[str, Any]] = ()) -> TrialPlan:
        """The trial at one point of the training axes, with the variants of ``merged`` ones that share its training.

        Raises:
            ConfigError: parts of the configuration do not fit each other.
        """
        processes = self.spec.resources.trial.process_count
        hardware = self.hardware("trial")
        train = training_stage(self.spec.trial(values, seed), self.fingerprint, processes, hardware)
        variants: dict[str, Variant] = {}
        for point in self.spec.variant_points(values):
            stages = variant_stages(self.spec.trial(point, seed), self.fingerprint, self.spec.analyses, train)
            variants.setdefault(stages.labels.key, Variant(point, shown(point, self.spec.axes), stages))
        trial = TrialPlan(dict(values), shown(values, self.spec.axes), seed, train, tuple(variants.values()))
        return functools.reduce(united, (self.trial(other, seed) for other in merged), trial)

    def grid(self) -> list[TrialPlan]:
        """All trials of a grid: one for every distinct training and seed, variants of equal trainings merged; none
        where the sweep trains segmenters alone."""
        trials: dict[str, TrialPlan] = {}
        for values in self.spec.training_points() if trains_hosts(self.spec) else ():
            for seed in self.spec.seeds:
                trial = self.trial(values, seed)
                known = trials.get(trial.key)
                if known is None:
                    trials[trial.key] = trial
                else:
                    trials[trial.key] = united(known, trial)
        return list(trials.values())

    def corners(self) -> list[TrialPlan]:
        """Trials at the first and the last possible point: what a search's trials have in common, these have.

        None where only points within the ranges meet the constraints.
        """
        ends = (next(self.spec.extreme_points(backwards=backwards), None) for backwards in (False, True))
        return [self.trial(values, seed) for values in ends if values is not None for seed in self.spec.seeds]


def united(first: TrialPlan, second: TrialPlan) -> TrialPlan:
    """Two points with one training: their variants beside each other."""
    variants = {variant.stages.labels.key: variant for variant in (*first.variants, *second.variants)}
    return dataclasses.replace(first, variants=tuple(variants.values()), merged=(*first.merged, second.values))


def shared_stages(trials: Sequence[TrialPlan]) -> list[Stage]:
    """Stages that more than one trial needs, inputs first: run once before the trials start."""
    counts = Counter(stage.key for trial in trials for stage in trial.stages())
    ordered = {stage.key: stage for trial in trials for stage in trial.stages()}
    return [stage for key, stage in ordered.items() if counts[key] > 1]
