"""What a power cut or a full disk may leave of a sweep's own files: each is named with how to go on, or made again."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from optuna.study import StudyDirection

from aream.errors import AreamError, DamagedFile
from orchestrator import control, report, status
from orchestrator.cluster.auto_gpus import AutoGpus
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.preflight.sweep_folder import sweep_id
from orchestrator.run.trial_events import TrialLife
from orchestrator.search.record import _open_storage
from orchestrator.search.stopped_trials import Stopped
from orchestrator.spec.settings import Limits
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.recorded_steps import last_steps
from orchestrator.tracking.spool import Spool, SpoolUnavailable
from orchestrator.tracking.tracker import Tracker
from orchestrator.workspace import SEARCH_FILE, Workspace, locate, remember_store

DAMAGES = {
    "empty": b"",
    "zeros": b"\0" * 64,
    "half": b'{"gpu_sec',
    "bytes": b"\xff\xfe\x00\x01",
    "number": b"7",
    "null": b"null",
    "text": b'"text"',
    "list": b"[[1]]",
    "object": b'{"a": {"b": 1}}',
    "infinite": b'{"gpu_seconds": Infinity, "sweep": Infinity}',
    "negative": b'{"gpu_seconds": -5, "trials": {"train_cam-0": -5}}',
}


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES)
def damage(request):
    return request.param


@pytest.fixture
def place(tmp_path):
    workspace = Workspace(None, tmp_path, "s")
    workspace.folder.mkdir()
    return workspace


def refused(path, call) -> str:
    """The message, and the file as it was."""
    content = path.read_bytes()
    with pytest.raises(DamagedFile) as caught:
        call()
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == content
    return str(caught.value)


def test_a_budget_that_was_spent_never_becomes_zero_unasked(place, damage):
    spent = place.folder / "spent.json"
    spent.write_bytes(damage)
    told = refused(spent, lambda: Supervisor(place.control_file, spent, Limits(gpu_hours=1.0)))
    assert 'write {"gpu_seconds": NUMBER} into it' in told
    spent.write_text('{"gpu_seconds": 3600}')  # as told
    assert Supervisor(place.control_file, spent, Limits(gpu_hours=1.0)).budget_spent()
    spent.unlink()  # the other way
    assert Supervisor(place.control_file, spent, Limits(gpu_hours=1.0)).gpu_seconds == 0


def test_orders_that_cannot_be_read_begin_no_sweep_and_end_none(place, damage, caplog, capsys):
    if damage in (b"{}", DAMAGES["object"]):
        pytest.skip("an object without sweep and trials wants nothing")
    now = [0.0]
    supervisor = Supervisor(place.control_file, place.folder / "spent.json", Limits(), lambda: now[0])
    supervisor.orders.trials["train_cam-0"] = "stop"
    place.control_file.write_bytes(damage)
    for _ in range(5):
        now[0] += 2
        supervisor.tick({})
    assert supervisor.desired_state("train_cam-0") == "stop"
    assert caplog.text.count("orders.json") == 1  # told once, not every second
    refused(place.control_file, lambda: Supervisor(place.control_file, place.folder / "spent.json", Limits()))
    assert control.main(["s", "--runs", str(place.runs), "pause"]) == 2
    assert "delete it and give these orders again" in capsys.readouterr().err


def test_trials_that_were_stopped_early_run_on(place, damage, caplog):
    class Life:
        stopped_file = place.folder / "stopped.json"

    Life.stopped_file.write_bytes(damage)
    assert TrialLife.stopped(Life) == Stopped()
    assert "stopped.json: is damaged" in caplog.text
    assert "they run on" in caplog.text
    assert (place.folder / "stopped.json.damaged").read_bytes() == damage


def test_a_sweeps_name_in_mlflow_is_not_made_up_anew(place, damage):
    first = sweep_id(place)
    assert sweep_id(place) == first
    path = place.folder / "sweep_id"
    path.write_bytes(damage)
    assert "tag `aream.sweep`" in refused(path, lambda: sweep_id(place))
    path.write_text(first)  # as told
    assert sweep_id(place) == first


def test_where_the_store_is_can_be_told_by_the_yaml(place, damage):
    path = place.folder / "store.json"
    path.write_bytes(damage)
    assert "YAML" in refused(path, lambda: locate("s", str(place.runs)))
    remember_store(place)
    assert locate("s", str(place.runs)).store_uri is None


def test_what_auto_was_decided_to_be_is_decided_anew_when_asked(place, damage):
    auto = AutoGpus(place, None, None, None)
    auto.path.write_bytes(damage)
    assert "delete it" in refused(auto.path, auto._read)
    auto.path.unlink()
    assert auto._read() == {}


def test_a_state_and_results_that_cannot_be_read_are_named(place, damage, capsys):
    place.state_file.write_bytes(damage)
    place.summary_file.write_bytes(damage[:5])
    assert status.main(["s", "--runs", str(place.runs)]) == 2
    assert "state.json: is damaged" in capsys.readouterr().err
    assert control.main(["s", "--runs", str(place.runs), "stop", "--trial", "a"]) == 2
    assert "state.json: is damaged" in capsys.readouterr().err
    assert report.main(["s", "--runs", str(place.runs)]) == 2
    assert "summary.json: is damaged" in capsys.readouterr().err


def test_a_search_whose_record_has_a_hole_gives_no_result_to_another_point(place):
    storage = _open_storage(None, place.folder)
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "s")
    for _ in range(3):
        storage.create_new_trial(study)
    record = place.folder / SEARCH_FILE
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:2]) + b"\0" * 50 + b"\n" + b"".join(lines[3:]))
    assert "line 3" in refused(record, lambda: _open_storage(None, place.folder))
    record.write_bytes(b"".join(lines)[:-7])  # a kill, or a power cut in the last line
    kept = _open_storage(None, place.folder)
    assert len(kept.get_all_trials(study)) == len(lines) - 2


def test_a_damaged_line_of_what_was_recorded_is_told(tmp_path, caplog):
    memory = tmp_path / "recorded.jsonl"
    good = [json.dumps(["a", 1, 5]).encode(), json.dumps(["b", 2, 6]).encode()]
    memory.write_bytes(b"\n".join([b"", good[0], b"\0" * 30, b"7", b"\xff", good[1], b'["c", ']))
    assert last_steps(memory, 10) == {"a": 1, "b": 2}
    assert "3 lines are damaged" in caplog.text


def event(number: int) -> bytes:
    return json.dumps({"n": number}).encode() + b"\n"


@pytest.mark.parametrize("hole", [b"\0" * 64 + b"\n", b'{"n": \n', b"\n", b"5\n", b"\xff\xfe\n", b'{"n": 1}{"n": 2}\n'])
def test_a_damaged_line_is_told_and_what_is_behind_it_is_read(tmp_path, hole, caplog):
    (tmp_path / "events.jsonl").write_bytes(event(0) + hole + event(1))
    spool = Spool(tmp_path)
    found = spool.pending(10)
    assert [event["n"] for event, _ in found] == [0, 1]
    assert [event["n"] for event, _ in spool.pending(10)] == [0, 1]
    assert caplog.text.count("are damaged") == 1
    spool.done(found[0][1])
    assert [event["n"] for event, _ in spool.pending(10)] == [1]
    spool.close()


def test_damaged_lines_at_the_end_are_passed_over(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(event(0) + b"\0\0\n" + b"half\n")
    spool = Spool(tmp_path)
    spool.done(spool.pending(10)[0][1])
    assert spool.pending(10) == []
    assert spool.left() == 0
    spool.append({"n": 1})
    assert [event["n"] for event, _ in spool.pending(10)] == [1]
    spool.close()


@pytest.mark.parametrize("offset", [b"", b"\0\0\0", b"-5", b"x", b"3", b"1000000", b"1e3"])
def test_an_offset_that_is_none_sends_everything_once_more(tmp_path, offset, caplog):
    (tmp_path / "events.jsonl").write_bytes(event(0) + event(1))
    (tmp_path / "offset").write_bytes(offset)
    spool = Spool(tmp_path)
    assert [event["n"] for event, _ in spool.pending(10)] == [0, 1]
    assert "all are sent once more" in caplog.text
    spool.close()


@pytest.fixture
def tracker(tmp_path):
    """With a server that takes everything; what it took is in ``taken``."""
    made = Tracker(MlflowBackend(f"sqlite:///{tmp_path}/mlflow.db", "experiment"), "id", tmp_path / "spool")
    made.taken = []
    made.delivery.write = made.taken.extend
    yield made
    if not made.closing.is_set():
        made.close(10)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("call", ["pending", "done"])
def test_tracking_survives_an_error_of_its_spool_and_tells_it(tracker, monkeypatch, call):
    failing, real = threading.Event(), getattr(tracker.spool, call)
    failing.set()

    def failing_at_first(*arguments):
        if failing.is_set():
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(tracker.spool, call, failing_at_first)
    tracker.end_run("a", "FINISHED")
    wait_for(lambda: tracker.problem)
    assert "No space left" in tracker.problem
    failing.clear()
    tracker.end_run("b", "FINISHED")
    wait_for(lambda: tracker.problem is None)
    assert tracker.close(60) == 0
    assert {event["run"] for event in tracker.taken} == {"a", "b"}


def test_an_offset_that_cannot_be_written_sends_nothing_twice_and_is_told(tracker, monkeypatch, tmp_path):
    def full(path, text):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.tracking.spool.write_text", full)
        tracker.end_run("a", "FINISHED")
        wait_for(lambda: tracker.problem)
        assert f"{tmp_path}/spool/offset: No space left on device" in tracker.problem
    tracker.end_run("b", "FINISHED")
    assert tracker.close(60) == 0
    assert [event["run"] for event in tracker.taken] == ["a", "b"]
    assert int((tmp_path / "spool" / "offset").read_text()) == (tmp_path / "spool" / "events.jsonl").stat().st_size


def test_a_spool_that_is_gone_is_told_and_counts_nothing_as_delivered(tracker, tmp_path):
    tracker.delivery.write = lambda group: (_ for _ in ()).throw(ConnectionError("away"))
    tracker.end_run("a", "FINISHED")
    wait_for(lambda: tracker.problem)
    os.rename(tmp_path / "spool" / "events.jsonl", tmp_path / "elsewhere")
    wait_for(lambda: "events.jsonl" in (tracker.problem or ""))
    assert tracker.left() >= 0
    with pytest.raises(SpoolUnavailable, match=r"events\.jsonl"):
        tracker.spool.left()
    assert tracker.close(1) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
def test_a_spool_with_holes_reaches_mlflow_but_for_the_holes(tmp_path, caplog):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    first = Tracker(MlflowBackend("http://127.0.0.1:9", "experiment"), "id", tmp_path / "spool")
    first.start_run("sweep", name="s")
    first.log_content("sweep", "kept.txt", b"kept")
    first.log_content("sweep", "cut.txt", b"cut by a power cut")
    first.log_metrics("sweep", {"val/map": 0.5}, 1)
    first.close(0.1)
    next((tmp_path / "spool" / "files").glob("*/cut.txt")).write_bytes(b"")
    events = tmp_path / "spool" / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    strange = [b"\0" * 90 + b"\n", b'{"kind": "metrics", "run": "sweep", "time": 1}\n', b'{"kind": "close"}\n', b"[]\n"]
    events.write_bytes(lines[0] + strange[0] + strange[1] + b"".join(lines[1:]) + strange[2] + strange[3])
    second = Tracker(MlflowBackend(uri, "experiment"), "id", tmp_path / "spool")
    assert second.close(300) == 0
    assert caplog.text.count("are damaged and no event") == 4
    assert "cut.txt of sweep is damaged and left out" in caplog.text
    import mlflow

    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs(["1"])
    assert run.data.metrics == {"val/map": 0.5}
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["kept.txt"]


def test_the_files_of_an_unreadable_folder_are_named(place):
    place.state_file.mkdir()
    with pytest.raises(AreamError, match=r"state\.json: cannot be read"):
        status.observed(place)


@pytest.mark.parametrize("content", ["{}", "[]", '{"ranking": {}}'])
def test_a_file_of_results_without_any_is_named_by_the_report(place, content, capsys):
    place.summary_file.write_text(content)
    assert report.main(["s", "--runs", str(place.runs)]) == 2
    assert "summary.json: is damaged" in capsys.readouterr().err
