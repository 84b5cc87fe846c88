"""Signals that keep coming while a sweep ends: it ends at once, and what it goes on from is whole."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_sweep import write_sweep

from orchestrator import api
from orchestrator.monitor.state import read_state
from orchestrator.monitor.supervisor import spent_before
from orchestrator.tracking.run_names import SWEEP
from orchestrator.tracking.spool import Spool
from workers.artifacts.holds import all_holds
from workers.artifacts.opening import open_store

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
OFTEN_S = 0.002
COMMAND = [sys.executable, "-m", "orchestrator.sweep", "small.yaml"]


@pytest.fixture(scope="module")
def computed(tmp_path_factory) -> Path:
    """A folder with a sweep whose stages are all stored, so that it begins no Ray."""
    folder = tmp_path_factory.mktemp("computed")
    path = write_sweep(folder, runs="runs", tracking={"name": "mlflow"})
    api.run_trial(api.load(path), {})
    return folder


@pytest.fixture
def folder(computed, tmp_path) -> Path:
    shutil.copytree(computed, tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes messages and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(240)
        yield server


def begun(folder: Path, server: socket.socket) -> subprocess.Popen[str]:
    address = f"http://127.0.0.1:{server.getsockname()[1]}/"
    return subprocess.Popen(
        COMMAND, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "AREAM_WEBHOOK": address},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended_by(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it said after the first of many signals, one every few milliseconds until it is gone."""
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(OFTEN_S)
    return process.stdout.read()


def recorded_as(folder: Path) -> str:
    """The status that the tracker was last told of the sweep, whether it was sent or not."""
    (file,) = (folder / "runs/small/tracking").rglob("events.jsonl")
    (offset := file.with_name("offset")).unlink(missing_ok=True)
    spool = Spool(file.parent)
    found = [event for event, _ in spool.pending(10**6)]
    spool.close()
    assert spool.damaged == set()
    assert not offset.exists()
    return [event["status"] for event in found if (event["kind"], event["run"]) == ("end", SWEEP)][-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["ranking", "writing the report"])
def test_what_a_sweep_goes_on_from_is_whole(folder, silent, number, phase):
    with begun(folder, silent) as process:
        while phase not in (line := process.stdout.readline()):
            assert line, "it ended before"
        said = ended_by(process, number)
    assert process.returncode == 130, said
    state = read_state(folder / "runs/small/state.json")
    assert state["phase"] == "interrupted"
    assert {task["status"] for task in state["tasks"]} == {"done"}
    assert spent_before(folder / "runs/small/spent.json") == 0
    assert recorded_as(folder) == "KILLED"
    store = open_store(None, folder / "runs/artifacts")
    for key in list(store.keys()):
        store.verify(key)
    assert [len(hold.keys) > 0 for hold in all_holds(store.storage)] == [True]
    again = subprocess.run(
        COMMAND, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=250
    )
    assert again.returncode == 0, again.stderr
    assert read_state(folder / "runs/small/state.json")["phase"] == "finished"
    assert recorded_as(folder) == "FINISHED"


def test_a_sweep_that_had_finished_stays_so(folder, silent):
    with begun(folder, silent) as process:
        connection, _ = silent.accept()  # it tells of its end, and waits for an answer
        with connection:
            said = ended_by(process, signal.SIGTERM)
    assert process.returncode == 130, said
    assert read_state(folder / "runs/small/state.json")["phase"] == "finished"
    assert recorded_as(folder) == "FINISHED"
