from __future__ import annotations

import gc
import json
import shutil
import warnings
from pathlib import Path

import pytest

from orchestrator.monitor.state import MANY_TASKS, SweepState, read_state
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.backends.protocol import Backend, Delivery
from orchestrator.tracking.events import kept_file
from orchestrator.tracking.recorded_steps import last_steps
from orchestrator.tracking.spool import Spool
from orchestrator.tracking.tracker import Tracker

# mlflow's database layer warns about its own dependencies
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
PATIENCE_S = 300
"""A new database takes a busy machine a minute."""


@pytest.fixture
def open_tracker(tmp_path):
    trackers = []

    def open_tracker(uri: str | None = None, spool: str = "spool") -> Tracker:
        default = f"sqlite:///{tmp_path}/mlflow.db"
        trackers.append(Tracker(MlflowBackend(uri or default, "experiment"), "sweep-1", tmp_path / spool))
        return trackers[-1]

    yield open_tracker
    for tracker in trackers:
        if not tracker.closing.is_set():
            tracker.close(5)


def client(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def runs(tmp_path):
    found = client(tmp_path).search_runs(["1"])
    return {run.data.tags["aream.run"]: run for run in found}


def record_sweep(tracker: Tracker, picture: Path) -> None:
    tracker.start_run("sweep", name="thresholds", params={"method.alpha_low": "0.2"})
    tracker.start_run("trial/a", name="alpha 0.2", parent="sweep", params={"a(b)": 1}, tags={"key": "a"})
    for step in range(1, 4):
        tracker.log_metrics("trial/a", {"val/map": 0.1 * step, "broken": float("nan")}, step)
    tracker.log_file("trial/a", picture, "overlays")
    tracker.log_dataset("trial/a", "shapes", "abc", "shapes", "training")
    tracker.end_run("trial/a", "FINISHED")
    tracker.describe("sweep", "[trial]({{run:trial/a}}) and [none]({{run:trial/b}})")
    tracker.end_run("sweep", "FINISHED")


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"png")
    return tmp_path / "picture.png"


def check(tmp_path) -> None:
    found = runs(tmp_path)
    assert set(found) == {"sweep", "trial/a"}
    sweep, trial = found["sweep"], found["trial/a"]
    assert trial.data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert trial.data.params == {"a_b_": "1"}
    assert "broken" not in trial.data.metrics
    history = client(tmp_path).get_metric_history(trial.info.run_id, "val/map")
    assert [(point.step, round(point.value, 6)) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert sweep.data.tags["mlflow.note.content"] == (
        f"[trial](#/experiments/1/runs/{trial.info.run_id}) and [none](#)"
    )
    assert [item.path for item in client(tmp_path).list_artifacts(trial.info.run_id, "overlays")] == [
        "overlays/picture.png"
    ]
    assert trial.inputs.dataset_inputs[0].dataset.name == "shapes"
    assert (sweep.info.status, trial.info.status) == ("FINISHED", "FINISHED")


@pytest.mark.slow
def test_a_sweep_is_recorded_whole(open_tracker, tmp_path, picture):
    tracker = open_tracker()
    record_sweep(tracker, picture)
    picture.unlink()  # a kept file may go away at once
    assert tracker.close(PATIENCE_S) == 0
    check(tmp_path)


@pytest.mark.slow
def test_runs_with_files_stay_in_no_ones_memory(open_tracker, picture):
    """MLflow's client keeps what it uploads with for every run: a queue and threads, for thousands of trials."""
    tracker = open_tracker()
    before = uploaders()
    for number in range(3):
        tracker.start_run(f"trial/{number}", name="trial")
        tracker.log_file(f"trial/{number}", picture)
    assert tracker.close(PATIENCE_S) == 0
    assert uploaders() <= before


def uploaders() -> int:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    gc.collect()
    return sum(issubclass(type(found), ArtifactRepository) for found in gc.get_objects())


@pytest.mark.slow
def test_replaying_the_whole_spool_changes_nothing(open_tracker, tmp_path, picture):
    tracker = open_tracker()
    record_sweep(tracker, picture)
    assert tracker.close(PATIENCE_S) == 0
    (tmp_path / "spool" / "offset").unlink()
    assert open_tracker().close(PATIENCE_S) == 0
    check(tmp_path)


@pytest.mark.slow
def test_a_resumed_sweep_continues_its_runs(open_tracker, tmp_path, picture):
    tracker = open_tracker()
    record_sweep(tracker, picture)
    tracker.close(PATIENCE_S)
    second = open_tracker()
    second.start_run("trial/a", name="alpha 0.2", parent="sweep", params={"a(b)": 2})
    second.log_metrics("trial/a", {"val/map": 0.4}, 4)
    second.end_run("trial/a", "FINISHED")
    assert second.close(PATIENCE_S) == 0
    trial = runs(tmp_path)["trial/a"]
    assert len(runs(tmp_path)) == 2
    assert trial.data.metrics["val/map"] == 0.4
    assert trial.data.params == {"a_b_": "1"}  # MLflow's params cannot change; the new value is a tag
    assert trial.data.tags["now.a_b_"] == "2"
    third = open_tracker()
    third.start_run("trial/a", name="alpha 0.2", parent="sweep", params={"a(b)": 1})
    assert third.close(PATIENCE_S) == 0
    assert runs(tmp_path)["trial/a"].data.tags["now.a_b_"] == "1"


@pytest.mark.slow
def test_a_server_that_is_away_costs_nothing_and_is_told_later(open_tracker, tmp_path, picture):
    tracker = open_tracker("http://127.0.0.1:9")
    record_sweep(tracker, picture)
    left = tracker.close(1)
    assert left == len((tmp_path / "spool" / "events.jsonl").read_text().splitlines()) > 0
    assert open_tracker().close(PATIENCE_S) == 0
    check(tmp_path)


class Kept(Backend, Delivery):
    """A record in memory of the files it was given; one that is away takes nothing."""

    where, remote = "memory", False

    def __init__(self, away: bool = False) -> None:
        self.away, self.files = away, {}

    def delivery(self, sweep_id, refuse):
        return self

    def write(self, events):
        for event in events:
            if self.away:
                raise OSError("away")
            path = kept_file(event)
            self.files[event["run"]] = path and path.read_bytes()
            shutil.rmtree(Path(event["path"]).parent)


@pytest.mark.parametrize("copied", [True, False])
def test_files_that_wait_are_sent_from_where_the_folder_is_now(tmp_path, monkeypatch, picture, copied):
    monkeypatch.setenv("LAB_PASSWORD", "group-of-mine")  # what masks it in events is no part of a path
    first, now = tmp_path / "group-of-mine" / "spool", tmp_path / "elsewhere"
    tracker = Tracker(Kept(away=True), "sweep-1", first)
    tracker.log_file("trial/a", picture)
    tracker.log_content("trial/b", "group-of-mine.txt", b"text")
    assert tracker.close(0.1) == 2
    shutil.copytree(first, now)
    if not copied:
        shutil.rmtree(first)
    for folder in [now, first] if copied else [now]:
        backend = Kept()
        assert Tracker(backend, "sweep-1", folder).close(PATIENCE_S) == 0
        assert backend.files == {"trial/a": b"png", "trial/b": b"text"}


@pytest.mark.slow
def test_what_mlflow_refuses_does_not_block_the_rest(open_tracker, tmp_path):
    tracker = open_tracker()
    tracker.start_run("sweep", name="x")
    tracker.log_metrics("sweep", {"k" * 400: 1.0}, 1)  # longer than a key may be
    tracker.log_metrics("sweep", {"fine": 1.0}, 1)
    tracker.end_run("sweep", "FINISHED")
    assert tracker.close(PATIENCE_S) == 0
    sweep = runs(tmp_path)["sweep"]
    assert sweep.data.metrics == {"fine": 1.0}
    assert sweep.info.status == "FINISHED"


@pytest.mark.slow
def test_an_event_that_comes_just_before_the_closing_is_delivered(open_tracker, tmp_path, monkeypatch):
    tracker = open_tracker()
    read = tracker.spool.pending

    def ended_while_the_writer_finds_nothing(limit):
        events = read(limit)
        if not events and not tracker.closing.is_set():
            tracker.start_run("sweep", name="x")
            tracker.end_run("sweep", "FINISHED")
            tracker.closing.set()
        return events

    monkeypatch.setattr(tracker.spool, "pending", ended_while_the_writer_finds_nothing)
    assert tracker.closing.wait(PATIENCE_S)
    assert tracker.close(PATIENCE_S) == 0
    assert runs(tmp_path)["sweep"].info.status == "FINISHED"


def test_spool_keeps_order_and_its_place(tmp_path):
    spool = Spool(tmp_path)
    for number in range(5):
        spool.append({"n": number})
    first = spool.pending(3)
    assert [event["n"] for event, _ in first] == [0, 1, 2]
    spool.done(first[-1][1])
    spool.close()
    again = Spool(tmp_path)
    assert [event["n"] for event, _ in again.pending(10)] == [3, 4]
    assert again.left() == 2
    again.close()


def test_a_torn_last_line_is_cut_off(tmp_path):
    spool = Spool(tmp_path)
    spool.append({"n": 1})
    spool.close()
    with spool.path.open("ab") as file:
        file.write(json.dumps({"n": 2}).encode()[:-2])
    again = Spool(tmp_path)
    again.append({"n": 3})
    assert [event["n"] for event, _ in again.pending(10)] == [1, 3]
    again.close()


@pytest.mark.slow
def test_files_of_one_folder_that_went_out_together_all_arrive(open_tracker, tmp_path, picture):
    (tmp_path / "other.png").write_bytes(b"other")
    tracker = open_tracker()
    tracker.start_run("sweep", name="files")
    for path, folder in ((picture, "overlays"), (tmp_path / "other.png", "overlays"), (picture, "")):
        tracker.log_file("sweep", path, folder)
    assert tracker.close(PATIENCE_S) == 0
    own = runs(tmp_path)["sweep"].info.run_id
    assert [file.path for file in client(tmp_path).list_artifacts(own)] == ["overlays", "picture.png"]
    found = client(tmp_path).list_artifacts(own, "overlays")
    assert [file.path for file in found] == ["overlays/other.png", "overlays/picture.png"]
    assert not list((tmp_path / "spool" / "files").iterdir())


@pytest.mark.slow
def test_a_run_made_by_a_request_without_an_answer_is_found_again(open_tracker, tmp_path, monkeypatch):
    import mlflow

    create, lost = mlflow.MlflowClient.create_run, []

    def without_answer(self, *arguments, **named):
        made = create(self, *arguments, **named)
        if not lost:
            lost.append(made)
            raise ConnectionError("the answer was lost")
        return made

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", without_answer)
    tracker = open_tracker()
    tracker.start_run("sweep", name="one")
    assert tracker.close(PATIENCE_S) == 0
    assert len(client(tmp_path).search_runs(["1"])) == 1


def test_what_was_recorded_is_remembered_but_for_a_torn_line(tmp_path):
    memory = tmp_path / "recorded.jsonl"
    assert last_steps(memory, 90) == {}
    memory.write_text('\n["a", 1, 20]\n["a", 2, 30]\n["b", -1, 60]\n["c", \n["d", 4, 90]')
    assert last_steps(memory, 90) == {"a": 2, "b": -1, "d": 4}
    assert last_steps(memory, 59) == {"a": 2}  # a power cut took the rest of the spool


def test_a_state_of_many_tasks_is_written_by_the_next_tick(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.monitor.state.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("orchestrator.monitor.state.SAVE_SHARE", 1e9)
    state = SweepState(tmp_path / "state.json", "many")
    for number in range(MANY_TASKS + 1):
        state.add(f"trial-{number}", "title", "trial", 1)
    state.update("trial-1", status="running")
    monkeypatch.setattr("orchestrator.monitor.state.SAVE_EVERY_S", 1000.0)
    state.update("trial-1", status="done")
    written = tmp_path / "state.json"
    assert read_state(written)["tasks"][1]["status"] == "running"
    state.catch_up()
    assert read_state(written)["tasks"][1]["status"] == "running"
    monkeypatch.setattr("orchestrator.monitor.state.SAVE_EVERY_S", 0.0)
    state.catch_up()
    assert read_state(written)["tasks"][1]["status"] == "done"
