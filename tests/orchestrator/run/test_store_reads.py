"""What the driver asks a store for when a trial ends: nothing that its loop would wait for, and nothing twice."""

from __future__ import annotations

import collections
import json
import threading

import pytest
import sweep_results

from aream.config import Component
from aream.errors import StoreUnavailable
from aream.segmenters import deeplab
from orchestrator.monitor.progress import ProgressDisplay
from orchestrator.monitor.state import SweepState
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.results.records import RunRecords
from orchestrator.run.stage_events import StageLife
from orchestrator.run.stage_tasks import TaskEvent
from orchestrator.run.trial_events import Listeners, TrialLife
from orchestrator.spec.settings import Limits, Notify
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.later import BackgroundQueue
from orchestrator.tracking.prometheus import Metrics
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.webhook import Webhook
from workers.artifacts.holds import Hold
from workers.artifacts.store import ArtifactStore
from workers.pipelines import segmentation_stage
from workers.trial import SegmentationConfig

READS = ("read", "stat", "list", "download")


class Counting:
    """A storage that counts what each thread asks it for."""

    def __init__(self, storage) -> None:
        self.storage, self.counts = storage, collections.Counter()

    def __getattr__(self, name):
        found = getattr(self.storage, name)
        if name not in READS:
            return found

        def counted(*arguments, **named):
            self.counts["loop" if threading.current_thread() is threading.main_thread() else "beside"] += 1
            return found(*arguments, **named)

        return counted


class Desk:
    """A driver's listener of trials, over a store that counts."""

    def __init__(self, folder) -> None:
        self.plan = sweep_results.planner(folder)
        place = sweep_results.workspace(self.plan)
        written = place.store()
        self.trials = self.plan.grid()
        sweep_results.compute(written, self.trials, sweep_results.alpha_score)
        self.storage = Counting(written.storage)
        self.store = ArtifactStore(self.storage, folder / "scratch")
        self.written, self.records = written, RunRecords(self.store)
        spec = self.plan.spec
        state = SweepState(place.state_file, spec.name)
        uri = f"sqlite:///{folder}/mlflow.db"
        self.tracker = Tracker(MlflowBackend(uri, "experiment"), "sweep-1", folder / "tracking")
        self.tracker.delivery.write = lambda group: None
        place.folder.mkdir(parents=True, exist_ok=True)
        self.recorder = Recorder(self.tracker, spec, self.plan.fingerprints, self.store, place.folder)
        progress = ProgressDisplay(state, ["pseudo/miou"], place.log_file)
        told = Listeners(state, progress, self.recorder, Metrics(state, lambda: 0), Webhook("s", Notify()))
        supervisor = Supervisor(place.control_file, place.folder / "spent.json", Limits())
        hold = Hold(written.storage, "5eed" * 8, "s")
        self.told = told
        self.life = TrialLife(spec, self.records, told, supervisor, hold, place.folder / "stopped.json")

    def handed(self, trial):
        """What the worker of a trial has read."""
        stages = [trial.train, *(stage for variant in trial.variants for stage in variant.stages.all())]
        return [self.written.record(stage.key) for stage in stages]


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.tracker.close(10)


def untrain(desk, *trials):
    for trial in trials:
        desk.written.discard(trial.key)


def test_the_end_of_a_trial_is_waited_for_by_nobody(desk):
    first, *others = desk.trials
    desk.life.started(first)
    desk.life.finished(first, desk.handed(first))
    assert desk.storage.counts["loop"] <= 2  # the warm-up, which all trials of a seed share
    desk.storage.counts.clear()
    for trial in others:
        desk.life.started(trial)
        desk.life.finished(trial, desk.handed(trial))
    assert desk.storage.counts["loop"] <= 2  # of the other seed
    desk.recorder.later.finish()
    variants = sum(len(trial.variants) for trial in desk.trials)
    assert desk.storage.counts["beside"] <= 6 * variants  # the list of files and its pictures, of each variant
    steps = [json.loads(line)[:2] for line in desk.recorder.recorded.file.read_text().split("\n") if line]
    assert [trial.key for trial in desk.trials] == [key for key, step in steps if step == -1 and "/" not in key]


def test_a_trial_whose_shared_stage_failed_is_not_run_into_the_same_error(desk):
    """Of dozens of trials each would train its way there again, but for those that are trained."""
    first, *others = [trial for trial in desk.trials if trial.seed == desk.trials[0].seed]
    untrain(desk, *others)
    desk.life.stages_failed({desk.trials[0].train.inputs["warmup"].key: "KeyError: 'no such thing'"})
    hit = [trial.key for trial in desk.trials if desk.life.fails_at_once(trial)]
    assert hit == [trial.key for trial in others] != []
    assert first.key not in desk.life.failures
    assert all(desk.life.failures[key].endswith("failed") for key in hit)
    assert desk.life.supervisor.failed == len(hit)


def test_a_stage_that_failed_in_one_trial_fails_at_once_in_those_that_need_it(desk):
    """A search knows no stage that all its points share; what was lost with a node is worth another try."""
    first, *others = desk.trials
    untrain(desk, *desk.trials)
    warmup = first.train.inputs["warmup"].key
    desk.life.failed(first, "failed 4 times; the last time: its node was lost")
    assert not any(map(desk.life.fails_at_once, desk.trials))
    desk.life.failed(first, f"{warmup}: loss is not finite", warmup)
    hit = [trial.key for trial in others if desk.life.fails_at_once(trial)]
    assert hit == [trial.key for trial in others if trial.seed == first.seed] != []
    assert {desk.life.failures[key] for key in hit} == {f"its input {warmup} failed"}


def test_points_with_a_training_that_failed_fail_with_its_reason(desk):
    first = desk.trials[0]
    untrain(desk, first)
    desk.life.failed(first, f"{first.key}: out of memory", first.key)
    assert [desk.life.fails_at_once(trial) for trial in desk.trials] == [True] + [False] * (len(desk.trials) - 1)
    assert desk.life.failures[first.key] == f"{first.key}: out of memory"


def test_a_finished_segmentation_job_shows_its_miou_while_others_run(desk):
    trial = desk.trials[0]
    spec = desk.plan.spec
    config = SegmentationConfig(model=Component(name="deeplab", config=deeplab.Config()))
    first, second = (
        segmentation_stage(config, spec.trial(variant.values, 0), variant.stages.labels, desk.plan.fingerprint)
        for variant in trial.variants[:2]
    )
    sweep_results.put(desk.written, first, 1.0, "2026-01-01T00:00:00+00:00", **{"seg/miou": 0.4321})
    life = StageLife(desk.told, desk.records, "segmentation", spec.resources.segmentation)
    for stage in (first, second):
        life.add(stage)
        life.on_event(TaskEvent(stage, "running"))
    life.on_event(TaskEvent(first, "done"))
    assert desk.told.state.tasks[first.key].metrics == {"seg/miou": 0.4321}
    assert desk.told.state.tasks[second.key].metrics == {}


def test_a_resumed_sweep_asks_once_and_many_at_a_time(desk):
    keys = [stage.key for trial in desk.trials for stage in trial.stages()]
    assert desk.records.present([*keys, "train_cam-0123456789abcdef"]) == set(keys)
    assert desk.storage.counts["beside"] <= len(set(keys)) + 1
    assert desk.storage.counts["loop"] == 0
    assert all(desk.records.has(key) and desk.records.record(key).key == key for key in keys)
    assert desk.storage.counts["loop"] == 0
    assert not desk.records.has("train_cam-0123456789abcdef")  # asked again: it may be on its way
    assert desk.storage.counts["loop"] == 1


def test_what_is_not_recorded_by_the_end_is_left_to_the_next_run(desk):
    begun, go_on = threading.Event(), threading.Event()
    desk.recorder.later.do(lambda: (begun.set(), go_on.wait(60)))
    begun.wait(60)
    for trial in desk.trials[:2]:
        desk.life.started(trial)
        desk.life.finished(trial, desk.handed(trial))
        desk.life.started(trial)  # told again by a retry
        desk.life.finished(trial, desk.handed(trial))
    desk.recorder.drop()
    go_on.set()
    desk.recorder.later.finish()
    assert not desk.recorder.recorded.file.exists()


def test_a_store_that_is_away_is_told_once_and_waited_for_once(caplog):
    later, done = BackgroundQueue("recording"), []

    def away() -> None:
        done.append(1)
        raise StoreUnavailable("s3://bucket: no answer for 300 s (503)")

    later.do(lambda: 1 / 0)
    for _ in range(3):
        later.do(away)
    later.finish()
    assert done == [1]
    assert caplog.text.count("no answer for 300 s") == 1
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.slow
def test_a_worker_hands_on_what_it_has_read_and_tune_keeps_none_of_it(tmp_path, monkeypatch):
    """The worker's own function, with a list in the place of Ray Tune."""
    from orchestrator.run import tuning
    from orchestrator.run.tune_callback import RECORDS, Listening

    plan = sweep_results.planner(tmp_path, "axes.inference.layers=[all, shallow]", "seeds=[0]")
    place = sweep_results.workspace(plan)
    trial, reports = plan.grid()[0], []
    monkeypatch.setattr(tuning.tune, "report", reports.append)
    tuning._run_trial(
        trial,
        plan,
        place,
        type("Line", (), {"stop": staticmethod(lambda: False), "images_actor": staticmethod(lambda: None)}),
    )
    assert [row["epoch"] for row in reports if "epoch" in row][:4] == [1, 2, 3, 4]
    assert all(RECORDS not in row for row in reports[:-1])
    told = []
    listener = type("Listener", (), {"finished": staticmethod(lambda plan, handed: told.append((plan, handed)))})
    Listening._ended(type("Listening", (), {"listener": listener}), trial, reports[-1])
    ((ended, handed),) = told
    assert ended is trial
    store = place.store()
    assert {record.key for record in handed} >= {stage.key for stage in trial.stages()}
    assert all(record == store.record(record.key) for record in handed)
    assert RECORDS not in reports[-1]
    assert reports[-1]["pseudo/miou"] >= 0
