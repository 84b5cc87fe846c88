"""Commands that look at what is there: a name with a mistake in it is an error, and nothing is made of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sweep_results import GRID

from orchestrator import artifacts, check_data, control, report, status
from orchestrator.monitor.control_file import ControlFile
from orchestrator.monitor.state import SweepState
from workers.artifacts.opening import open_store
from workers.processes.identity import Process

COMMANDS = {"artifacts": artifacts, "status": status, "control": control, "report": report, "check_data": check_data}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, the sweeps of another one, and what a command says there."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "other.txt").write_text("no store")
    (tmp_path / "grid.yaml").write_text(GRID.format(runs=folder / "runs", more=""))
    return folder


def said(capsys, command: str, *arguments: str, expect: int = 2) -> str:
    assert COMMANDS[command].main(list(arguments)) == expect
    shown = capsys.readouterr()
    return shown.out + shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        *(["artifacts", "--runs", "rusn", *rest] for rest in (["ls"], ["verify"], ["sweeps"], ["gc"], ["show", "x"])),
        ["artifacts", "--runs", "rusn", "gc", "--dry-run"],
        ["artifacts", "--runs", "rusn", "--sweep", "alphas", "ls"],
        ["artifacts", "ls"],
        ["artifacts", "--store", "stroe", "ls"],
        ["artifacts", "--store", "stroe", "gc"],
        ["artifacts", "--store", "..", "gc"],
        ["artifacts", "--store", "../other.txt", "verify"],
        ["artifacts", "--sweep", "../grid.yaml", "ls"],
        ["artifacts", "--sweep", "../grid.yaml", "gc"],
        *([command, "alphas", *rest] for command, *rest in (["status"], ["report"], ["control", "stop"])),
        *([command, "alphas", "--runs", "../rusn"] for command in ("status", "report")),
        ["control", "alphas", "pause", "--runs", "../other.txt"],
        *(["control", "../grid.yaml", wish] for wish in ("pause", "resume", "stop")),
        ["control", "../grid.yaml", "stop", "--trial", "x"],
        ["status", "../grid.yaml"],
        ["report", "../grid.yaml"],
        ["report", "../grid.yaml", "--csv"],
        ["check_data", "../gird.yaml"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_one_error_and_makes_nothing(arguments, here, capsys):
    shown = said(capsys, *arguments)
    assert len(shown.splitlines()) == 1
    assert str(here.parent) in shown or arguments[1] in shown
    assert sorted(here.rglob("*")) == []


def test_a_store_that_holds_nothing_yet_is_one(tmp_path, capsys):
    open_store(None, tmp_path / "artifacts").storage.check()
    assert said(capsys, "artifacts", "--runs", str(tmp_path), "ls", expect=0) == ""


@pytest.mark.parametrize("phase", ["finished", "interrupted", "running trials"])
def test_a_sweep_that_does_not_run_takes_no_orders(phase, tmp_path, capsys):
    """They would be overridden by its next start, or pause it without a word."""
    folder = tmp_path / "alphas"
    folder.mkdir()
    state = SweepState(folder / "state.json", "alphas")
    state.add("train_cam-0123456789abcdef", "alpha 1", "trial", 1)
    state.phase = phase
    state.save()
    if phase == "running trials":  # its process is gone: another one has its number since
        content = json.loads(state.path.read_text())
        gone = Process.this().token().replace(str(os.getpid()), "4194400")
        state.path.write_text(json.dumps(content | {"pid": 4194400, "process": gone}))
    for wish in ("pause", "resume", "stop"):
        shown = said(capsys, "control", "alphas", wish, "--runs", str(tmp_path))
        assert f"{folder}: this sweep does not run ({phase})" in shown
    assert not (folder / "orders.json").exists()
    shown = said(capsys, "control", "alphas", "stop", "--trial", "0123", "--runs", str(tmp_path), expect=0)
    assert "counts from when its command is run again" in shown
    assert ControlFile.read(Path(folder / "orders.json")).trials == {"train_cam-0123456789abcdef": "stop"}
