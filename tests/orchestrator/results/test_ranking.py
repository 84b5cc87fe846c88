from __future__ import annotations

import statistics

import pytest
import sweep_results

from aream.errors import ConfigError
from orchestrator.preflight.preview import summarise
from orchestrator.results.opened import Results
from orchestrator.results.ranking import measured
from orchestrator.results.records import RunRecords
from orchestrator.spec.settings import goal
from workers.artifacts.record import record_name


@pytest.fixture
def plan(tmp_path):
    return sweep_results.planner(tmp_path)


@pytest.fixture
def store(plan):
    return sweep_results.workspace(plan).store()


def test_the_best_mean_comes_first_and_the_spread_is_over_seeds(plan, store):
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)
    ranking = sweep_results.ranked(plan, store)
    assert len(ranking) == 12
    assert ranking[0].config == {"method.alpha_low": 0.4, "inference.layers": "none"}
    assert ranking[-1].config == {"method.alpha_low": 0.2, "inference.layers": [0, 3]}
    assert ranking[0].metrics["pseudo/miou"] == pytest.approx(0.545)
    assert ranking[0].spread["pseudo/miou"] == pytest.approx(0.01 / 2**0.5)
    assert ranking[0].best_seed(goal("pseudo/miou")) == 1


def test_a_result_costs_all_it_was_computed_from(plan, store):
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)
    for entry in sweep_results.ranked(plan, store):
        assert entry.metrics["cost/seconds"] == 10 + 100 + 20 + 5
        assert entry.metrics["cost/gpu_seconds"] == 0
        assert entry.spread["cost/seconds"] == 0


def test_a_share_of_a_gpu_prices_its_seconds(tmp_path):
    plan = sweep_results.planner(tmp_path, "resources={trial: {cpu: 1, gpu: 0.5}}")
    store = sweep_results.workspace(plan).store()
    sweep_results.compute(store, plan.grid()[:1], sweep_results.alpha_score)
    entry = sweep_results.ranked(plan, store)[0]
    assert entry.metrics["cost/gpu_seconds"] == 135 / 2


def test_the_same_configuration_costs_the_same_when_the_store_answers(plan, store):
    """The record keeps what it took; who shares the stages changes nothing."""
    sweep_results.compute(store, plan.grid()[:2], sweep_results.alpha_score)
    before = {entry.title: entry.metrics["cost/seconds"] for entry in sweep_results.ranked(plan, store)}
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)
    after = {entry.title: entry.metrics["cost/seconds"] for entry in sweep_results.ranked(plan, store)}
    assert before.items() <= after.items()


def test_what_is_not_stored_is_not_ranked(plan, store):
    trials = plan.grid()
    sweep_results.compute(store, trials[:2], sweep_results.alpha_score)
    store.discard(trials[0].variants[0].stages.labels.key)
    ranking = sweep_results.ranked(plan, store)
    assert len(ranking) == 4
    gone = next(entry for entry in ranking if entry.config["inference.layers"] == "none")
    assert gone.seeds == [1]


def test_a_damaged_record_counts_as_absent_so_that_its_stage_is_run_again(plan, store):
    """As after a power cut; the rest of the sweep is ranked meanwhile."""
    trials = plan.grid()
    sweep_results.compute(store, trials, sweep_results.alpha_score)
    damaged = trials[0].variants[0].stages.labels.key
    store.storage.write(record_name(damaged), b"")
    records = RunRecords(store)
    keys = {stage.key for trial in trials for stage in trial.stages()}
    assert records.present(keys) == keys - {damaged}
    ranking = sweep_results.ranked(plan, store)
    assert len(ranking) == 12
    assert [entry.seeds for entry in ranking if len(entry.seeds) == 1] == [[1]]
    assert {row.key for row in summarise(plan, store).stages if not row.stored} == {damaged}


def test_configurations_without_the_metric_are_not_ranked_and_can_be_written(plan, store):
    sweep_results.compute(store, plan.grid()[:1], sweep_results.alpha_score)
    other = plan.grid()[2]
    for stage in other.stages():
        sweep_results.put(store, stage, 1.0, "2026-01-01T00:00:00+00:00")
    ranking = sweep_results.ranked(plan, store)
    assert [("pseudo/miou" in entry.metrics) for entry in ranking] == [True] * 4
    (left, *_) = [entry for entry in measured(plan.grid(), store) if entry not in ranking]
    assert left.to_json(goal("pseudo/miou"))["label_artifact"]


@pytest.mark.parametrize("per_seed", [False, True])
def test_a_sweep_in_which_all_failed_is_an_empty_table(plan, per_seed):
    content, _ = sweep_results.summarised(plan, {trial.key: "KeyError: 'no such thing'" for trial in plan.grid()})
    found = Results(sweep_results.workspace(plan))
    assert found.table(per_seed=per_seed).empty
    assert found.failures == content["failures"]
    with pytest.raises(ConfigError, match="the sweep has ranked nothing yet"):
        found.labels()


def test_the_spread_of_segmenters_is_over_seeds_and_not_over_their_settings(tmp_path):
    more = "segmentation: {train: {crop: 32}, axes: {train.epochs: [1, 2, 3]}, select: {top: 1}}"
    plan = sweep_results.planner(tmp_path, more=more)
    sweep_results.compute(sweep_results.workspace(plan).store(), plan.grid(), sweep_results.alpha_score)
    (best, *_), jobs = (content := sweep_results.summarised(plan)[0])["ranking"], content["segmentation"]
    assert len(jobs) == 3 * len(plan.spec.seeds)
    by_seed = [own["seg/miou"] for own in best["per_seed"].values()]
    assert by_seed == pytest.approx([0.6, 0.7])
    assert best["metrics"]["seg/miou"] == pytest.approx(statistics.fmean(by_seed))
    assert best["spread"]["seg/miou"] == pytest.approx(statistics.stdev(by_seed))


def test_every_record_is_fetched_once(plan, store):
    sweep_results.compute(store, plan.grid(), sweep_results.alpha_score)

    class Counting:
        def __init__(self):
            self.asked = []

        def has(self, key):
            return store.has(key)

        def record(self, key):
            self.asked.append(key)
            return store.record(key)

    counting = Counting()
    sweep_results.ranked(plan, counting)
    assert len(counting.asked) == len(set(counting.asked)) == len(list(store.keys()))


def test_the_best_result_is_at_the_end_that_is_looked_for():
    results = [{"cost/seconds": 3.0, "n": 1.0}, {}, {"cost/seconds": 2.0, "n": 2.0}, {"cost/seconds": 2.0, "n": 3.0}]
    assert goal("cost/seconds").best(results)["n"] == 2
    assert goal("cost/seconds", "max").best(results)["n"] == 1
    assert goal("pseudo/miou").best(results) == {}
