"""What a later run of a sweep adds to its record: each thing once, and nothing left out."""

from __future__ import annotations

import pytest
from sweep_results import compute, planner, workspace

from orchestrator.results.records import RunRecords
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.backends.protocol import Backend, Delivery
from orchestrator.tracking.record_place import remember_record, spool_folder
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.tracker import Tracker
from orchestrator.workspace import Workspace

ONE_TRAINING = ("seeds=[0]", "method.alpha_low=0.3")


class Told(Backend, Delivery):
    """Keeps the events that it is given."""

    remote = False

    def __init__(self, where="memory"):
        self.where, self.events = where, []

    def delivery(self, sweep_id, refuse):
        return self

    def write(self, events):
        self.events += events


def recorded(folder, scores, *overrides, where="memory"):
    """The events that one run of the sweep adds, all of whose labels have a score by their layers."""
    plan = planner(folder, *ONE_TRAINING, *overrides)
    place, backend = workspace(plan), Told(where)
    place.folder.mkdir(parents=True, exist_ok=True)
    store = place.store()
    (trial,) = plan.grid()
    compute(store, [trial], lambda trial, variant: scores[str(variant.values["inference.layers"])])
    tracker = Tracker(backend, "sweep-1", spool_folder(place, "memory", backend))
    recorder = Recorder(tracker, plan.spec, plan.fingerprints, store, place.folder)
    recorder.trial(trial)
    recorder.trial_done(trial, RunRecords(store))
    recorder.later.finish()
    assert tracker.close(20) == 0
    return trial, backend.events


def started(events):
    return [event["run"].partition("/")[0] for event in events if event["kind"] == "start"]


def best(events, trial):
    """The mIoU that the trial carries, where it is told."""
    told = [event["metrics"] for event in events if event["kind"] == "metrics" and event["run"] == f"trial/{trial.key}"]
    return [metrics["pseudo/miou"] for metrics in told if "pseudo/miou" in metrics]


SCORES = {"none": 0.3, "all": 0.5, "shallow": 0.7, "deep": 0.1}


@pytest.mark.parametrize(("added", "now"), [("shallow", 0.7), ("deep", 0.5)])
def test_variants_that_are_added_to_a_sweep_are_recorded_and_no_others_again(tmp_path, added, now):
    axes = "axes={inference.layers: [none, all%s]}"
    trial, first = recorded(tmp_path, SCORES, axes % "")
    assert started(first) == ["trial", "variant", "variant"]
    trial, again = recorded(tmp_path, SCORES, axes % "")
    assert again == []
    trial, more = recorded(tmp_path, SCORES, axes % f", {added}")
    assert started(more) == ["variant"]
    assert more[0]["run"] == f"variant/{trial.key}/{trial.variants[-1].stages.labels.key}"
    assert best(first, trial)[-1] == 0.5
    assert best(more, trial)[-1] == now
    assert more[-1]["kind"] == "end"
    assert recorded(tmp_path, SCORES, axes % f", {added}")[1] == []


def test_an_analysis_that_is_added_to_a_sweep_is_recorded_once(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Recorder, "_analysis", lambda self, run, stage, records: told.append((run, stage.name)))
    axes = "axes={inference.layers: [none, all]}"
    trial, _ = recorded(tmp_path, SCORES, axes, "analyses=[]")
    assert told == []
    for _ in range(2):
        _, more = recorded(tmp_path, SCORES, axes, "analyses=[layer_gain]")
        assert started(more) == []
    assert told == [(f"trial/{trial.key}", "layer_gain")]


def test_another_record_is_told_everything(tmp_path):
    axes = "axes={inference.layers: [none, all]}"
    for where in ("memory", "elsewhere"):
        assert started(recorded(tmp_path, SCORES, axes, where=where)[1]) == ["trial", "variant", "variant"]
    for where in ("memory", "elsewhere"):
        assert recorded(tmp_path, SCORES, axes, where=where)[1] == []


def test_a_record_has_one_spool_wherever_its_runs_folder_is(tmp_path):
    def spool(runs, record, experiment="grid"):
        place = Workspace(store_uri=None, runs=runs, name="grid")
        backend = MlflowBackend(record.format(runs=runs), experiment)
        made = spool_folder(place, "mlflow", backend)
        remember_record(place, "mlflow", backend.where)
        return made.relative_to(runs)

    first, now = tmp_path / "runs", tmp_path / "moved"
    own, server = "sqlite:///{runs}/mlflow.db", "http://lab:{runs}@mlflow:5000"  # a password is no part of it
    spools = [spool(first, own), spool(first, server), spool(first, own, "other")]
    assert str(spools[0]) == "grid/tracking/mlflow"
    assert len(set(spools)) == 3
    first.rename(now)
    assert [spool(now, own), spool(now, server), spool(now, own, "other")] == spools


@pytest.mark.parametrize("recorded_in", [None, "sqlite:///{runs}/mlflow.db", "http://mlflow:5000"])
def test_the_spool_of_an_earlier_version_is_that_of_the_last_record(tmp_path, recorded_in):
    place = Workspace(store_uri=None, runs=tmp_path, name="grid")
    earlier = place.folder / "tracking" / "mlflow"
    earlier.mkdir(parents=True)
    if recorded_in is not None:
        remember_record(place, "mlflow", recorded_in.format(runs=tmp_path))
    found = spool_folder(place, "mlflow", MlflowBackend(f"sqlite:///{tmp_path}/mlflow.db", "grid"))
    assert (found == earlier) is (recorded_in != "http://mlflow:5000")
