"""Counts against the summary, which is made of the ranking; sending them is tested on a real Ray."""

from __future__ import annotations

from datetime import datetime

import pytest
import sweep_results

from orchestrator.monitor.state import SweepState
from orchestrator.results.ranking import rank
from orchestrator.results.records import RememberedRecords
from orchestrator.results.savings import stored_before, sweep_cost
from orchestrator.tracking.prometheus import METRICS, Metrics

CREATED = "2026-01-01T00:00:00+00:00"
EARLIER = "2025-12-31T00:00:00+00:00"


@pytest.fixture
def finished(tmp_path):
    """Six trials of four variants; those of the first alpha were in the store before."""
    plan = sweep_results.planner(tmp_path, "resources.trial.gpu=0.25")
    place = sweep_results.workspace(plan)
    store, trials = place.store(), plan.grid()
    earlier = [trial for trial in trials if trial.values["method.alpha_low"] == 0.2]
    sweep_results.compute(store, earlier, lambda trial, variant: 0.5, EARLIER)
    sweep_results.compute(store, trials, lambda trial, variant: 0.5, CREATED)
    return plan, store, trials, earlier


def counted(plan, store, trials, started=CREATED):
    state = SweepState(plan.spec.runs_dir / "state.json", "grid", lambda: datetime.fromisoformat(started).timestamp())
    metrics = Metrics(state, lambda: 0)
    for trial in trials:
        metrics.finished(trial, RememberedRecords(store), plan.spec.resources.trial)
    return metrics


def total(metrics, name, **labels):
    return sum(
        value for (own, found), value in metrics.totals.items() if own == name and labels.items() <= dict(found).items()
    )


def test_a_fresh_sweep_counts_what_its_summary_says(finished):
    plan, store, trials, _ = finished
    metrics = counted(plan, store, trials, started=EARLIER)
    cost = sweep_cost(rank(trials, store, plan.spec.ranked_by), [], RememberedRecords(store), plan.spec.resources)
    assert cost["separate_seconds"] > cost["seconds"] > 0
    assert total(metrics, "stage_seconds") == pytest.approx(cost["seconds"])
    assert total(metrics, "gpu_seconds") == pytest.approx(cost["gpu_seconds"])
    saved = cost["separate_seconds"] - cost["seconds"]
    assert total(metrics, "saved_seconds", by="sharing") == pytest.approx(saved)
    assert total(metrics, "saved_gpu_seconds", by="sharing") == pytest.approx(saved * 0.25)
    assert total(metrics, "stages_run", stage="warmup") == 2
    assert total(metrics, "stages_run", stage="train_cam") == 6
    assert total(metrics, "stages_run", stage="pseudo_label") == 24
    assert total(metrics, "cache_hits") == 0


def test_what_the_store_had_is_a_hit_and_saved(finished):
    plan, store, trials, earlier = finished
    metrics = counted(plan, store, trials)
    said = stored_before(
        metrics.state,
        [stage for trial in trials for variant in trial.variants for stage in variant.stages.all()],
        RememberedRecords(store),
    )
    assert total(metrics, "cache_hits") == said["stages"]["stored"] > 0
    assert total(metrics, "stages_run") == said["stages"]["all"] - said["stages"]["stored"] > 0
    assert total(metrics, "saved_seconds", by="store") == pytest.approx(said["saved_seconds"])
    assert total(metrics, "cache_hits", stage="train_cam") == len(earlier)


def test_sharing_is_counted_by_the_run_that_computed(finished):
    plan, store, _, earlier = finished
    metrics = counted(plan, store, earlier)
    assert total(metrics, "saved_seconds", by="sharing") == 0
    assert total(metrics, "saved_seconds", by="store") > 0


def test_a_trial_that_ends_twice_counts_once(finished):
    plan, store, trials, _ = finished
    assert counted(plan, store, [*trials, *trials]).totals == counted(plan, store, trials).totals


def test_labels_never_name_a_trial():
    assert {label for metric in METRICS.values() for label in metric.labels} == {"stage", "by", "kind", "status"}
