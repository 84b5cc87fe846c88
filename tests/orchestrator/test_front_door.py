"""`aream` and its sub-commands: one parser each, options in any place, and nothing imported that is not needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_results import alpha_score, compute, planner, summarised, workspace

from orchestrator import artifacts, check_data, control, report, status, submit, sweep
from orchestrator.cli import COMMANDS
from orchestrator.monitor.state import SweepState

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "ray", "mlflow")
AREAM = f"""
import json, sys
from orchestrator.cli import aream
try:
    aream()
except SystemExit as end:
    print(json.dumps([end.code, [name for name in {HEAVY} if name in sys.modules]]), file=sys.stderr)
"""
TRIAL = "train_cam-0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where a sweep has finished: its file, state, results and store."""
    folder = tmp_path_factory.mktemp("door")
    plan = planner(folder)
    place = workspace(plan)
    compute(place.store(), plan.grid(), alpha_score)
    summarised(plan)
    state = SweepState(place.state_file, "grid", columns=["val/map", "pseudo/miou"])
    state.add(TRIAL, "alpha=0.2", "trial", epochs=4)
    state.update(TRIAL, status="done")
    state.phase = "finished"
    state.save()
    with place.logged(TRIAL):
        pass
    return folder


def aream(folder: Path, *arguments: str) -> tuple[int | None, list[str], str, str]:
    """Exit status, heavy packages that were imported, and what it printed to both streams."""
    done = subprocess.run(
        [sys.executable, "-c", AREAM, *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    *said, last = done.stderr.splitlines()
    code, heavy = json.loads(last)
    return code, heavy, done.stdout, "\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "status grid", "status grid.yaml", "status grid --json", f"status grid --log {TRIAL}",
        "status grid --watch", "status --watch grid",
        f"control grid stop --trial {TRIAL}", f"control grid.yaml resume --trial {TRIAL}",
        "artifacts ls", "artifacts --sweep grid.yaml ls pseudo_label", "artifacts verify", "artifacts sweeps",
        "artifacts gc --dry-run", "report grid --csv", "report grid.yaml --csv -",
        "init other", "--help", "--print-completion bash", "--print-completion zsh", "--print-completion tcsh",
        *(f"{name} --help" for name in COMMANDS),
    ],
)  # fmt: skip
def test_what_trains_nothing_imports_no_torch(folder, arguments):
    code, heavy, _, said = aream(folder, *arguments.split())
    assert (code or 0, heavy) == (0, []), said


@pytest.mark.slow
def test_artifacts_are_shown_and_exported_without_torch(folder):
    _, _, listed, _ = aream(folder, "artifacts", "ls", "pseudo_label")
    key = listed.split()[0]
    for arguments in (("show", key), ("export", key, "labels")):
        _, heavy, _, said = aream(folder, "artifacts", *arguments)
        assert heavy == [], said


@pytest.mark.slow
def test_all_commands_are_listed_with_a_line(folder):
    _, _, out, _ = aream(folder, "--help")
    lines = {words[0]: words[1:] for line in out.splitlines() if (words := line.split())}
    assert all(lines[name] for name in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_the_exit_statuses_under_either_name(folder, name):
    module = f"orchestrator.{name.replace('-', '_')}"
    _, _, out, _ = aream(folder, name, "--help")
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    assert f"examples:\n  aream {name}" in out
    assert all(f"\n  {status} " in out for status in (0, 1, 2, 3, 130))
    assert done.stdout.replace(f"python -m {module}", f"aream {name}").split() == out.split()


@pytest.mark.parametrize("arguments", [(), ("swep",), ("--verbose",), ("status",), ("artifacts",), ("init", "a", "b")])
def test_what_means_nothing_is_refused_with_a_usage(folder, arguments):
    code, _, out, said = aream(folder, *arguments)
    assert (code, out) == (2, "")
    assert said.startswith("usage: aream")
    assert "Traceback" not in said


@pytest.mark.parametrize("option", ["--why", "--json"])
def test_what_is_asked_of_a_plan_runs_no_sweep(folder, option, capsys):
    assert sweep.main([str(folder / "grid.yaml"), option]) == 2
    assert f"{option}: is about a plan: give --plan too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (report, "grid --csv a --latex b", "not allowed with argument"),
        (status, "grid --watch soon", "need 0.1 to 86400 seconds, got soon"),
    ],
)
def test_what_goes_together_with_nothing_is_refused(command, arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        command.main.parser().parse_args(arguments.split())
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_a_sweep_has_a_store_of_its_own(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert artifacts.main(["ls", "--sweep", "grid", "--store", "elsewhere"]) == 2
    assert "--store: given 'elsewhere' beside --sweep" in capsys.readouterr().err
    assert artifacts.main(["ls", "--endpoint", "http://127.0.0.1:9"]) == 2
    assert "--endpoint: of a server that --store is on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (submit, "--to slurm --status 7 --set train.lr=1", "--set: of a sweep that is sent"),
        (submit, "--to slurm --follow 7 --detach --dry-run", "--dry-run, --detach: of a sweep that is sent"),
        (submit, "--to slurm --stop 7 --image other", "--image: of a sweep that is sent"),
        (status, "grid --log sweep --json", "--json: of the state, not of a log"),
        (status, "grid --log sweep --watch", "--watch: of the state, not of a log"),
        (artifacts, "ls --sweep grid --endpoint http://h:1", "--endpoint: of the server of --store"),
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(folder, monkeypatch, command, arguments, words, capsys):
    monkeypatch.chdir(folder)
    assert command.main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "leave" in said


@pytest.mark.parametrize(
    ("command", "orders"),
    [
        (status, ["grid --watch", "--watch grid", "--watch=2 grid"]),
        (status, ["grid --watch 5 --json", "--json --watch 5 grid", "--watch 5 grid --json"]),
        (status, ["--runs r grid --log sweep", "grid --log sweep --runs r", "--log sweep grid --runs r"]),
        (control, ["grid pause --trial a", "--trial a grid pause", "grid --trial a pause"]),
        (report, ["grid --csv", "--csv grid"]),
        (report, ["grid --csv x.csv", "--csv x.csv grid"]),
        (artifacts, ["ls --sweep grid", "--sweep grid ls"]),
        (artifacts, ["--store a --runs r ls x", "ls x --store a --runs r", "--store a ls --runs r x"]),
        (artifacts, ["verify a b --discard", "verify a --discard b", "verify --discard a b"]),
        (artifacts, ["export k f --endpoint u", "--endpoint u export k f", "export k --endpoint u f"]),
        (submit, ["x.yaml --to ray --dry-run", "--to ray x.yaml --dry-run", "--dry-run --to ray x.yaml"]),
        (check_data, ["voc2012 --deep --root d", "--root d voc2012 --deep", "--deep voc2012 --root d"]),
    ],
)
def test_options_stand_in_any_place(command, orders):
    first, *others = [command.main.parser().parse_args(order.split()) for order in orders]
    assert all(other == first for other in others)


@pytest.mark.parametrize("place", [(), ("--runs", "r")])
def test_a_default_is_none_of_what_is_given_in_front_of_a_sub_command(place):
    options = artifacts.main.parser().parse_args([*place, "ls"])
    assert (options.runs, options.store) == ("r" if place else "runs", None)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("aream sta", "status"), ("aream control grid re", "resume"), ("aream artifacts ver", "verify"),
        ("aream artifacts gc --gr", "--grace"), ("aream check-data --de", "--deep"), ("aream sweep gri", "grid.yaml"),
    ],
)  # fmt: skip
def test_bash_completes(folder, typed, offered):
    """With the script in a real shell, as its completion calls it."""
    script = aream(folder, "--print-completion", "bash")[2]
    words = typed.split()
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _shtab_aream aream {words[-1]} {words[-2]}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""],
        cwd=folder, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert offered in done.stdout.split(), done.stderr
