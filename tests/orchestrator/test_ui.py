"""MLflow's UI on the record that is meant, or one line that says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import pytest
from ports import free_port

from orchestrator import ui
from orchestrator.console.listening import listening
from orchestrator.spec.sqlite_uri import sqlite_file, sqlite_uri
from orchestrator.tracking.backends._mlflow_pages import address
from orchestrator.tracking.backends.mlflow import MlflowBackend
from orchestrator.tracking.local_ui import ui_command
from orchestrator.tracking.mlflow_uri import default_uri, resolved_uri
from orchestrator.tracking.record_place import RecordPlace, recorded_in, remember_record
from orchestrator.tracking.tracker import Tracker
from orchestrator.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs" / "s").mkdir(parents=True)
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    assert ui.main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("arguments", [(), ("s",), ("s.yaml",), ("--runs", "runs")])
def test_without_a_record_there_is_nothing_to_show(here, capsys, arguments):
    (here / "s.yaml").write_text("name: s\n")
    assert f"{here}/runs/mlflow.db: there is no record yet" in refused(capsys, *arguments)


def test_the_record_is_the_one_that_the_sweep_file_names(here, capsys):
    (here / "s.yaml").write_text("name: s\ntracking: {uri: 'sqlite:///own.db'}\n")
    assert f"{here}/own.db: there is no record yet" in refused(capsys, "s.yaml")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (["mlflow", "sqlite:///mlflow.db"], "{here}/runs/mlflow.db: there is no record yet"),
        (["mlflow", "sqlite:////away/own.db"], "/away/own.db: there is no record yet"),
        (["mlflow", "https://me:***@lab/mlflow"], "open https://me:***@lab/mlflow"),
        (["mlflow", "postgresql://me:***@lab/db"], "the password is not kept; name the sweep by its YAML file"),
        (["tensorboard", "/runs/s/tensorboard"], "the record of s is tensorboard, not MLflow's"),
        (["none", ""], "the record of s is none, not MLflow's"),
        ("sqlite:///mlflow.db", "record.json"),
    ],
)
def test_of_a_name_the_record_is_where_the_sweep_was_recorded(here, capsys, place, words):
    (here / "runs" / "s" / "record.json").write_text(json.dumps(place))
    assert words.format(here=here) in refused(capsys, "s")


@pytest.mark.parametrize("file", ["mlflow.db", "a b/own.db", "50%.db"])
def test_a_record_in_the_runs_folder_moves_with_it(here, file):
    runs = here / "runs"
    remember_record(Workspace(None, runs, "s"), "mlflow", sqlite_uri(runs / file))
    runs.rename(here / "moved")
    found = recorded_in(Workspace(None, here / "moved", "s"))
    assert sqlite_file(resolved_uri(found.where, here / "moved")) == here / "moved" / file


def test_a_record_elsewhere_stays_there(here):
    place = Workspace(None, here / "runs", "s")
    for where in (f"sqlite:///{here}/own.db", "http://lab:5000", "postgresql://me@lab/db", "/runs/s/tensorboard"):
        remember_record(place, "mlflow", where)
        assert recorded_in(place) == RecordPlace("mlflow", where)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////runs/mlflow.db", "http://127.0.0.1:5000"),
        ("http://lab:5000/", "http://lab:5000"),
        ("https://me:secret1@lab/mlflow", "https://lab/mlflow"),
        ("databricks://profile", None),
    ],
)
def test_a_browser_is_sent_there_without_a_password(uri, shown):
    assert address(uri) == shown


def test_the_command_of_a_sweep_says_where_its_runs_are(here):
    assert ui_command(Workspace(None, here / "runs", "s")) == "aream ui s"
    assert ui_command(Workspace(None, here / "a b", "s")) == f"aream ui s --runs '{here}/a b'"


def test_of_a_server_the_address_is_told_and_no_password(here, capsys, monkeypatch):
    (here / "s.yaml").write_text("name: s\ntracking: {uri: 'https://me:secret1@lab/mlflow'}\n")
    assert "open https://me:***@lab/mlflow" in refused(capsys, "s.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    assert "open http://lab:5000" in refused(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"), [(("other",), "no sweep 'other'"), (("--runs", "away"), "away does not exist")]
)
def test_of_no_sweep_or_folder_there_is_no_record(here, capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_a_port_that_is_taken_is_told_before_any_address(here, capsys):
    (here / "runs" / "mlflow.db").write_bytes(b"x")
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot listen on 127.0.0.1" in refused(capsys, "--port", str(port))
    assert "--port: given 70000; need a number in 0..65535" in refused(capsys, "--port", "70000")
    assert capsys.readouterr().out == ""


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::Warning")
def test_it_shows_what_was_recorded(here):
    """Also in a folder that was moved since; it prints where."""
    tracker = Tracker(MlflowBackend(default_uri(here / "runs"), "s"), "id", here / "spool")
    tracker.start_run("sweep", name="s")
    tracker.log_content("sweep", "note.txt", b"note")
    tracker.show_table("sweep", ["pseudo/miou"], ["seed"], "max")
    assert tracker.close(PATIENCE_S) == 0
    (here / "runs").rename(here / "moved")
    port = free_port()
    command = [sys.executable, "-m", "orchestrator.ui", "s", "--port", str(port), "--runs", "moved"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout.readline().startswith(f"s: http://127.0.0.1:{port}/#/experiments/1/runs?")
            assert "s" in experiments(port)
            (run,) = mlflow.MlflowClient(f"http://127.0.0.1:{port}").search_runs(["1"])
            file = f"http://127.0.0.1:{port}/get-artifact?path=note.txt&run_uuid={run.info.run_id}"
            with urllib.request.urlopen(file, timeout=PATIENCE_S) as answer:
                assert answer.read() == b"note"
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)


def experiments(port: int) -> list[str]:
    """Names of what the server has, once it answers."""
    address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=10"
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return [found["name"] for found in json.load(answer)["experiments"]]
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(1)
