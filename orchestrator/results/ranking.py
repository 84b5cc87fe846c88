"""Build a ranked table from records: variants averaged over seeds, best first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.planner import TrialPlan, Variant
from orchestrator.results.records import Records, RememberedRecords, lineage_cost, stage_metrics
from orchestrator.spec.axes import Values
from orchestrator.spec.settings import Goal, Resource


@dataclass(frozen=True)
class Ranked:
    """One configuration with its seeds. Metrics are means, spreads sample standard deviations (0 for one seed); a
    metric that is not a finite number is left out.

    Among the metrics, ``cost/seconds`` and ``cost/gpu_seconds`` are what everything behind the labels took.
    """

    config: Values
    metrics: dict[str, float]
    spread: dict[str, float]
    per_seed: dict[int, dict[str, float]]
    trial_keys: dict[int, str]
    label_artifacts: dict[int, str]
    variants: dict[int, Variant]
    seconds: float
    """Worker seconds of the training, mean over seeds."""

    @property
    def seeds(self) -> list[int]:
        return sorted(self.per_seed)

    def best_seed(self, goal: Goal) -> int:
        scored = [seed for seed in self.seeds if goal.metric in self.per_seed[seed]]
        return max(scored, key=lambda seed: goal.merit(self.per_seed[seed]), default=self.seeds[0])

    def seeds_without(self, metric: str) -> list[int]:
        """Seeds that have no number for it."""
        return [seed for seed in self.seeds if metric not in self.per_seed[seed]]

    @property
    def title(self) -> str:
        texts = next(iter(self.variants.values())).shown
        return ", ".join(f"{key}={text}" for key, text in texts.items()) or "base"

    @property
    def analyses(self) -> dict[str, dict[str, str]]:
        """Artifacts of each analysis, by seed."""
        found: dict[str, dict[str, str]] = {}
        for seed in self.seeds:
            for stage in self.variants[seed].stages.analyses:
                found.setdefault(stage.name, {})[str(seed)] = stage.key
        return found

    def to_json(self, goal: Goal) -> dict[str, Any]:
        return {
            "config": self.config,
            "metrics": self.metrics,
            "spread": self.spread,
            "seeds": self.seeds,
            "per_seed": {str(seed): values for seed, values in self.per_seed.items()},
            "trial_keys": [self.trial_keys[seed] for seed in self.seeds],
            "label_artifact": self.label_artifacts[self.best_seed(goal)],
            "label_artifacts": {str(seed): key for seed, key in self.label_artifacts.items()},
            "analyses": self.analyses,
            "training_seconds": round(self.seconds, 1),
        }


def rank(trials: Sequence[TrialPlan], store: Records, goal: Goal, resource: Resource | None = None) -> list[Ranked]:
    """All variants of the trials whose stages are stored, best mean first; those without the metric at every seed are
    not among them.

    Args:
        resource: what a trial gets; its share of a GPU prices ``cost/gpu_seconds``.
    """
    return best_first(measured(trials, store, resource), goal)


def best_first(entries: Iterable[Ranked], goal: Goal) -> list[Ranked]:
    """Sort the entries that have a number for the metric at every seed, best first."""
    scored = [entry for entry in entries if not entry.seeds_without(goal.metric)]
    return sorted(scored, key=lambda entry: -goal.merit(entry.metrics))


def unranked(entries: Iterable[Ranked], metric: str) -> dict[str, str]:
    """Title of each configuration that finished and has no place in the ranking -> why."""
    return {
        entry.title: f"no number for {metric} at seed {', '.join(map(str, seeds))}"
        for entry in entries
        if (seeds := entry.seeds_without(metric))
    }


def measured(trials: Sequence[TrialPlan], store: Records, resource: Resource | None = None) -> list[Ranked]:
    """All variants of the trials whose stages are stored."""
    records = RememberedRecords(store)
    groups: dict[str, list[tuple[TrialPlan, Variant]]] = {}
    for trial in trials:
        for variant in trial.variants:
            if all(records.has(stage.key) for stage in (trial.train, *variant.stages.all())):
                groups.setdefault(_identity(variant.values), []).append((trial, variant))
    return [_ranked(group, records, resource or Resource()) for group in groups.values()]


def mean_and_spread(rows: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Means and sample standard deviations of the metrics that every row has."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    means = {name: statistics.fmean(row[name] for row in rows) for name in names}
    spread = {name: statistics.stdev(row[name] for row in rows) if len(rows) > 1 else 0.0 for name in names}
    return means, spread


def _identity(values: Values) -> str:
    return repr(sorted(values.items(), key=lambda item: item[0]))


def _ranked(group: list[tuple[TrialPlan, Variant]], records: Records, resource: Resource) -> Ranked:
    per_seed: dict[int, dict[str, float]] = {}
    for trial, variant in group:
        metrics = stage_metrics((trial.train, *variant.stages.all()), records)
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        per_seed[trial.seed] = finite | lineage_cost(variant.stages.all(), records, resource)
    means, spread = mean_and_spread([per_seed[seed] for seed in sorted(per_seed)])
    return Ranked(
        config=group[0][1].values,
        metrics=means,
        spread=spread,
        per_seed=per_seed,
        trial_keys={trial.seed: trial.key for trial, _ in group},
        label_artifacts={trial.seed: variant.stages.labels.key for trial, variant in group},
        variants={trial.seed: variant for trial, variant in group},
        seconds=statistics.fmean(records.record(trial.key).seconds for trial, _ in group),
    )
