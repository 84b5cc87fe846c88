"""What the listener of trials keeps of them."""

from __future__ import annotations

from types import SimpleNamespace

from sweep_results import compute, planner, workspace

from orchestrator.monitor.state import SweepState
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.results.ranking import rank
from orchestrator.results.records import RunRecords
from orchestrator.run.trial_events import Listeners, TrialLife
from orchestrator.search.stopped_trials import BY_HAND, BY_SCHEDULER
from orchestrator.spec.settings import Limits
from workers.artifacts.holds import Hold

SEARCH = (
    "backbone={name: vit, vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2, pooling: class_token, "
    "head_kernel: 1}", "method={name: acr}", "search={trials: 3}", "seeds=[0]",
    "axes={method.localisation: {choice: [gradient, host]}, inference.layers: [all]}",
)  # fmt: skip


def test_points_of_a_search_with_one_training_are_all_ranked(tmp_path):
    plan = planner(tmp_path, *SEARCH)
    place = workspace(plan)
    store, scores = place.store(), {"gradient": 0.5, "host": 0.4}
    first, second = (plan.trial({"method.localisation": way}, 0) for way in scores)
    assert first.key == second.key
    recorded = []
    shown = SimpleNamespace(changed=lambda key: None)
    recorder = SimpleNamespace(trial_done=lambda trial, records: recorded.append(trial))
    metrics = SimpleNamespace(finished=lambda *finished: None)
    told = Listeners(SweepState(place.state_file, "s"), shown, recorder, metrics, None)
    supervisor, hold = Supervisor(place.control_file, place.spent_file, Limits()), Hold(store.storage, "5eed" * 8, "s")
    life = TrialLife(plan.spec, RunRecords(store), told, supervisor, hold, place.folder / "stopped.json")
    for trial in (first, second, first, second):  # when it is begun, and when it has ended
        life.add(trial)
    for trial in (first, second):
        compute(store, [trial], lambda trial, variant: scores[variant.values["method.localisation"]])
        life.finished(trial)
    assert [len(trial.variants) for trial in recorded] == [1, 2]  # once all of them are there
    ranked = rank(list(life.plans.values()), store, plan.spec.ranked_by)
    assert [(one.config["method.localisation"], one.metrics["pseudo/miou"]) for one in ranked] == [*scores.items()]
    assert hold.keys >= {stage.key for trial in (first, second) for stage in trial.stages()}


def test_trials_that_the_scheduler_stopped_are_what_the_next_one_is_shown(tmp_path):
    plan = planner(tmp_path, "scheduler={}")
    place = workspace(plan)
    place.folder.mkdir(parents=True, exist_ok=True)
    recorder = SimpleNamespace(trial_row=lambda trial, row: None, trial_ended=lambda *said: None)
    told = Listeners(SweepState(place.state_file, "s"), SimpleNamespace(changed=lambda key: None), recorder, None, None)
    store = place.store()
    supervisor, hold = Supervisor(place.control_file, place.spent_file, Limits()), Hold(store.storage, "5eed" * 8, "s")
    life = TrialLife(plan.spec, RunRecords(store), told, supervisor, hold, place.folder / "stopped.json")
    bad, by_hand, *_ = plan.grid()
    for trial, reason in ((bad, BY_SCHEDULER), (by_hand, BY_HAND)):
        life.add(trial)
        life.row(trial, {"epoch": 1.0, "val/map": 0.25})
        life.stopped_early(trial, reason)
    (seen,) = life.seen_stopped()
    assert (seen.values, seen.seed, seen.rows) == (bad.values, bad.seed, [{"epoch": 1.0, "val/map": 0.25}])


def test_a_trial_has_as_many_epochs_as_it_is_to_train(tmp_path):
    """Also where an axis has them: the time left is told from it."""
    plan = planner(tmp_path, "axes={train.epochs: [4, 6]}")
    place = workspace(plan)
    state, trials = SweepState(place.state_file, "s"), plan.grid()
    supervisor, hold = (
        Supervisor(place.control_file, place.spent_file, Limits()),
        Hold(place.store().storage, "5eed" * 8, "s"),
    )
    told = Listeners(state, None, None, None, None)
    life = TrialLife(plan.spec, RunRecords(place.store()), told, supervisor, hold, place.folder / "stopped.json")
    for trial in trials:
        life.add(trial)
    epochs = {trial.values["train.epochs"]: state.tasks[trial.key].epochs for trial in trials}
    assert epochs == {4: 4, 6: 6}
