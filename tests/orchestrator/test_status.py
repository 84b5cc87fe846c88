from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aream.errors import AreamError
from orchestrator import status
from orchestrator.monitor.state import SweepState
from orchestrator.workspace import Workspace
from workers.processes.identity import Process


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(store_uri=None, runs=tmp_path, name="s")


def running(place: Workspace, title: str = "alpha=0.2") -> SweepState:
    state = SweepState(place.state_file, "s", columns=["val/map"])
    state.phase = "trials"
    for key in ("train_cam-aaaaaaaaaaaa", "train_cam-bbbbbbbbbbbb", "train_cam-cccccccccccc"):
        state.add(key, title, "trial", epochs=4)
    state.update("train_cam-aaaaaaaaaaaa", status="running")
    state.row("train_cam-aaaaaaaaaaaa", {"epoch": 3, "val/map": 0.5, "pseudo/miou": 0.4})
    state.update("train_cam-bbbbbbbbbbbb", status="done", cached=True)
    state.save()
    return state


def shown(place: Workspace, capsys, *options: str) -> str:
    assert status.main([place.name, "--runs", str(place.runs), *options]) == 0
    return " ".join(capsys.readouterr().out.split())


def change(place: Workspace, **changes) -> None:
    content = json.loads(place.state_file.read_text())
    place.state_file.write_text(json.dumps(content | changes))


def test_a_running_sweep(place, capsys):
    running(place)
    text = shown(place, capsys)
    assert "s: trials (1 done, 1 running, 1 waiting, 1 from the store, time left unknown)" in text
    assert "3/4" in text
    assert "0.5000" in text
    assert re.search(rf"running for \d+ s as process {os.getpid()}", text)
    content = json.loads(shown(place, capsys, "--json"))
    assert content["alive"] is True
    assert content["stored"] == 1
    assert content["eta_s"] is None
    assert 0 <= content["last_change_s"] <= content["elapsed_s"] + 1 < 60


def test_the_sweep_has_not_begun(place, capsys):
    assert status.main(["s", "--runs", str(place.runs)]) == 2
    assert "no sweep 's'" in capsys.readouterr().err
    place.folder.mkdir()
    assert status.main(["s", "--runs", str(place.runs)]) == 2
    assert "has not been started" in capsys.readouterr().err


TASK_IS_NONE = '{"name": "s", "phase": "x", "started": 0, "tasks": [1]}'


@pytest.mark.parametrize("text", ["", '{"name": "s", "phase": "tri', "[]", "null", "{}", TASK_IS_NONE, "\x00"])
def test_a_torn_file_is_named(place, capsys, text):
    place.folder.mkdir()
    place.state_file.write_text(text)
    assert status.main(["s", "--runs", str(place.runs)]) == 2
    error = capsys.readouterr().err
    assert str(place.state_file) in error
    assert "Traceback" not in error


def test_a_driver_that_is_gone(place, capsys):
    running(place)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    change(place, pid=gone.pid, process="")
    assert "not running" in shown(place, capsys)


def test_another_process_with_the_number_of_the_driver_is_not_the_driver(place):
    running(place)
    own = Process.this()
    change(place, process=Process(own.machine, own.pid, own.started + 1).token())
    assert status.observed(place)["alive"] is False


def test_a_driver_on_another_machine_cannot_be_seen(place, capsys):
    running(place)
    change(place, host="far", process="0123456789ab-17-5")
    text = shown(place, capsys)
    assert "on far, which cannot be seen from this machine" in text
    assert "not running" not in text
    assert json.loads(shown(place, capsys, "--json"))["alive"] is None


def test_a_finished_sweep_is_told_as_finished(place, capsys):
    state = running(place)
    state.started -= 3700
    state.phase = "finished"
    state.save()
    change(place, saved=state.started + 3660)
    text = shown(place, capsys)
    assert re.search(r"finished [4-9]\d s ago after 1 h 1 min", text)
    assert "left" not in text.split("what")[0]


@pytest.mark.parametrize("phase", ["stopped (its budget of 2 h is spent)", "interrupted", "failed"])
def test_a_sweep_that_ended_early_can_be_resumed(place, capsys, phase):
    state = running(place)
    state.phase = phase
    state.save()
    text = shown(place, capsys)
    assert phase.split()[0] in text
    assert "run the same command again to resume" in text
    assert "unknown" not in text.split("what")[0]


def test_failures_come_with_their_logs(place, capsys):
    state = running(place)
    log = place.log_file("train_cam-cccccccccccc")
    log.parent.mkdir()
    log.write_text("it broke")
    state.update("train_cam-cccccccccccc", status="failed", error="loss is NaN at step 3")
    state.update("train_cam-aaaaaaaaaaaa", status="failed", error="killed")
    text = shown(place, capsys)
    assert f"(train_cam-cccccccccccc): loss is NaN at step 3; log: {log}" in text
    assert "(train_cam-aaaaaaaaaaaa): killed; it wrote no log" in text


def test_titles_and_statuses_are_text_not_markup(place, capsys):
    state = running(place, title="layers=[red] [/] [none,all]")
    state.update("train_cam-cccccccccccc", status="[paused]", error="[/bold] by hand")
    text = shown(place, capsys)
    assert "layers=[red] [/] [none,all]" in text
    assert "[paused]: layers=[red] [/] [none,all]: [/bold] by hand" in text


def test_fields_of_another_version_are_no_problem(place, capsys):
    running(place)
    content = json.loads(place.state_file.read_text())
    for task in content["tasks"]:
        task["lease"] = "x"
        del task["live_epochs"]
    change(place, tasks=content["tasks"], new=1)
    assert "trials" in shown(place, capsys)


def test_watching_ends_with_the_sweep(place, capsys):
    state = running(place)
    state.phase = "finished"
    state.save()
    lines = subprocess.run(
        [sys.executable, "-m", "orchestrator.status", "s", "--runs", place.runs, "--watch", "0.1", "--json"],
        capture_output=True, text=True, timeout=240, check=True, cwd=Path(status.__file__).parent.parent,
    ).stdout.splitlines()  # fmt: skip
    assert [json.loads(line)["phase"] for line in lines] == ["finished"]


def test_watching_shows_changes(place, capsys, monkeypatch):
    state = running(place)

    def sleep(seconds: float) -> None:
        assert seconds == 2.0
        state.phase = "finished"
        state.save()

    monkeypatch.setattr(status.time, "sleep", sleep)
    text = shown(place, capsys, "--watch")
    assert "s: trials" in text
    assert "s: finished" in text


@pytest.mark.parametrize("given", ["0", "-1", "nan", "soon"])
def test_impossible_periods_are_refused(place, capsys, given):
    with pytest.raises(SystemExit) as error:
        status.main(["s", "--watch", given])
    assert error.value.code == 2


def test_observed_raises_what_it_says(place):
    with pytest.raises(AreamError, match="not been started"):
        status.observed(place)
