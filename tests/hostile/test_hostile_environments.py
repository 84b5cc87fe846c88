"""Commands where home, temporary folders, streams, language or rights are not what they usually are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_results import alpha_score, compute, planner, summarised, workspace

from orchestrator.monitor.state import SweepState

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
PYTHON = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
PLAN, REPORT = ("sweep", "grid.yaml", "--plan"), ("report", "grid")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a sweep that looks finished."""
    folder = tmp_path_factory.mktemp("finished")
    plan = planner(folder)
    compute(workspace(plan).store(), plan.grid(), alpha_score)
    summarised(plan)
    state = SweepState(workspace(plan).state_file, "grid", columns=["pseudo/miou"])
    state.phase = "finished"
    state.save()
    return folder


def begun(folder: Path, *arguments: str, before: str = "", **variables: str) -> subprocess.Popen[str]:
    """``before``: what a shell does first, or how it changes the streams."""
    command = f'{before} exec "{sys.executable}" -m orchestrator."$@"'
    return subprocess.Popen(
        ["bash", "-c", command, "command", *arguments], cwd=folder, env={**PYTHON, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    """What it said to people."""
    _, said = process.communicate(timeout=280)
    assert process.returncode == status, said
    assert "Traceback" not in said
    return "".join(line for line in said.splitlines(keepends=True) if not line.startswith("warning: "))


@pytest.mark.parametrize("arguments", [PLAN, REPORT], ids=["plan", "report"])
@pytest.mark.parametrize(
    ("before", "variables"),
    [
        ("exec <&-;", {"HOME": "/nowhere"}),
        ("umask 077;", {"TMPDIR": "/nowhere"}),
        ("", {"HOME": "/dev/full", "TMPDIR": "/dev/full"}),
        ("", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("", {"PYTHONWARNINGS": "error"}),
    ],
    ids=["no input, no home", "private files", "a device for folders", "plain C", "warnings are errors"],
)
def test_it_does_what_it_does_elsewhere(arguments, before, variables, finished):
    assert ended(begun(finished, *arguments, before=before, **variables)) == ""


@pytest.mark.parametrize("place", ["sweep", "root"])
def test_a_locale_without_the_letters_of_a_name_is_told(place, finished, tmp_path):
    (folder := tmp_path / "é").mkdir()
    text = (finished / "grid.yaml").read_text()
    sweep = folder / "grid.yaml" if place == "sweep" else tmp_path / "grid.yaml"
    root = "" if place == "sweep" else f"store: {{uri: {folder}}}\n"
    sweep.write_text(text + root, encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = ended(begun(finished, "sweep", str(sweep), "--plan", **plain), 2)
    assert "Python takes names of files for ascii here: set PYTHONUTF8=1" in said
    assert len(said.splitlines()) == 1


@pytest.fixture
def full(tmp_path) -> Path:
    """A folder on a disk that is full."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a disk of its own")
    (folder / "runs").mkdir()
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={folder}/all", "bs=4k"], capture_output=True, text=True)
    assert "No space" in filled.stderr
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("variable", ["HOME", "TMPDIR"])
def test_a_full_disk_that_it_does_not_need_says_nothing(variable, full, finished):
    assert ended(begun(finished, *REPORT, **{variable: str(full)})) == ""


def without_room(full: Path, finished: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Every folder for temporary files is on the full disk, in a view of the file system of its own."""
    hides = 'mount --bind "$1" "$0/runs"; for folder in /var/tmp /tmp; do mount --rbind . $folder; done;'
    inside = f'cd "$0"; {hides} cd /tmp; exec "{sys.executable}" -m orchestrator.{command} grid --runs runs'
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", inside, full, finished / "runs"], env={**PYTHON, "HOME": "/nowhere"},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip


def test_without_any_room_a_report_says_so_and_can_be_run_again(full, finished):
    done = without_room(full, finished, "report")
    assert done.returncode == 130, done.stderr
    assert "free some space, or set TMPDIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_any_room_the_status_is_still_told(full, finished):
    done = without_room(full, finished, "status")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "finished" in done.stdout


def test_two_at_once_do_not_meet(finished):
    """Reports write over each other's files, collectors remove the same, and a plan looks on."""
    gc = ("artifacts", "gc", "--grace", "0", "--dry-run")
    together = [begun(finished, *arguments) for arguments in (REPORT, REPORT, gc, gc, PLAN)]
    assert [ended(process) for process in together] == [""] * 5
    page = (finished / "runs" / "grid" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>")
