"""Every command tells an error in one line, ends with its documented status, and outlives its terminal."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import botocore.exceptions
import pytest
import sqlalchemy.exc

from aream.errors import ConfigError, DataUnavailable, StoreUnavailable
from orchestrator import cli
from orchestrator.console.command import command, tracebacks_go_to
from orchestrator.monitor.state import SweepState

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = tuple(name.replace("-", "_") for name in cli.COMMANDS)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
TINY = """
name: tiny
data: {name: shapes, train_images: 24, val_images: 12}
backbone: {name: mctformer_v2, vit: vit_tiny_patch16_224, patch_size: 8, dim: 48, depth: 2, heads: 2}
train: {epochs: 2, warmup_epochs: 1, batch_size: 8, lr: 1e-3, lr_warmup_epochs: 0, image_size: 64}
inference: {image_size: 64}
"""


def python(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    options = {"cwd": ROOT, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run([sys.executable, *map(str, arguments)], **options)


def test_every_module_that_is_run_is_a_command():
    for path in (ROOT / "orchestrator").rglob("*.py"):
        source = path.read_text()
        if "__main__" in source:
            assert path.stem in COMMANDS
            mains = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "main"]
            assert [ast.unparse(decorator.func) for decorator in mains[0].decorator_list] == ["command"]
            assert source.rstrip().endswith('if __name__ == "__main__":\n    run(main)')


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_of_the_system_is_one_line_and_no_failed_trial(name, tmp_path):
    impossible = f"{'x' * 300}.yaml"  # longer than a file's name may be
    words = {
        "control": [impossible, "stop"],
        "submit": [impossible, "--to", "slurm", "--lab", impossible],
        "node_checks": [impossible, "--address", "h:1"],
        "artifacts": ["--sweep", impossible, "ls"],
        "evaluate": [".", "--data", impossible],
        "infer": ["--weights", impossible, "--images", ".", "--out", "out"],
        "schema": ["--out", impossible],
    }
    arguments = words.get(name, [impossible])
    done = python("-m", f"orchestrator.{name}", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "name too long" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ConfigError("name: bad"), 2, "name: bad"),
        (StoreUnavailable("s3://b: no answer"), 130, "run the same command again"),
        (DataUnavailable("/x: cannot be read at the moment (Stale file handle)"), 130, "run the same command again"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/lock"), 2, "belongs to"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 130, "free some space"),
        (OSError(errno.ESTALE, "Stale file handle", "/nfs/x"), 130, "/nfs/x: Stale file handle"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), 130, "run the same command again"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://s3"), 130, "the store"),
        (sqlalchemy.exc.OperationalError("select", {}, Exception("gone")), 130, "the database"),
        (RuntimeError("some library's"), 3, "RuntimeError: some library's"),
        (KeyError("k"), 3, "KeyError: 'k'"),
    ],
)
def test_each_kind_of_error_has_its_status(error, status, words, capsys, tmp_path):
    @command(no_arguments, "")
    def main(options):
        raise error

    tracebacks_go_to(tmp_path)
    assert main([]) == status
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    kept = list(tmp_path.glob("*.txt"))
    assert len(kept) == (status == 3)
    if kept:
        assert str(kept[0]) in said
        assert "Traceback" in kept[0].read_text()


def test_no_secret_is_in_what_is_kept_of_an_error(capsys, tmp_path):
    @command(no_arguments, "")
    def main(options):
        raise ValueError("cannot open https://dapiSECRET@host/x?token=abcdef")

    tracebacks_go_to(tmp_path)
    assert main([]) == 3
    (kept,) = tmp_path.glob("*.txt")
    for text in (capsys.readouterr().err, kept.read_text()):
        assert "https://***@host/x?token=***" in text
        assert "SECRET" not in text.replace('dapiSECRET@host/x?token=abcdef")', "")  # the line of the source


def no_arguments(parser):
    """Of a command that takes none."""


def command_file(folder: Path, body: str) -> Path:
    path = folder / "own.py"
    path.write_text(
        "import sys, time\nfrom orchestrator.console.command import command, run\n"
        "@command(lambda parser: None, '')\ndef main(options):\n"
        f"{body}\nrun(main)\n"
    )
    return path


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_resumable(number, tmp_path):
    waits = command_file(tmp_path, "    print('ready', flush=True)\n    time.sleep(600)")
    with subprocess.Popen(
        [sys.executable, waits], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
    assert process.returncode == 130
    assert said == "interrupted; run the same command again to go on\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_when_all_is_over_changes_no_status(number, tmp_path):
    """It ends what Python still does."""
    lasts = "    import atexit\n    atexit.register(lambda: (print('over', flush=True), time.sleep(600)))\n    return 1"
    with subprocess.Popen(
        [sys.executable, command_file(tmp_path, lasts)], env=ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "over\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=240)
    assert (process.returncode, said) == (1, "")


def test_nohup_is_respected(tmp_path):
    waits = command_file(tmp_path, "    print('ready', flush=True)\n    sys.stdin.readline()\n    return 0")
    with subprocess.Popen(
        ["nohup", sys.executable, waits],
        env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.communicate("go on\n", timeout=240)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["| head -1", ">&-", ">&- 2>&-", "> /dev/full", "2>&1 | true"])
def test_work_goes_on_without_a_reader_and_ends_with_its_own_status(streams, tmp_path):
    prints = command_file(
        tmp_path,
        "    for number in range(20000):\n        print('line', number, flush=number % 7 == 0)\n"
        "        print('error', file=sys.stderr)\n    open('end', 'w').write('reached')\n    return 1",
    )
    script = f"{sys.executable} {prints} {streams}; echo status ${{PIPESTATUS[0]}} >status"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (tmp_path / "end").read_text() == "reached"
    assert (tmp_path / "status").read_text() == "status 1\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_a_plan_without_a_reader_home_or_signs_is_still_a_plan(tmp_path):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(TINY)
    script = f"{sys.executable} -m orchestrator.sweep {sweep} --plan | head -1; exit ${{PIPESTATUS[0]}}"
    bare = {**ENVIRONMENT, "HOME": "/proc/nohome", "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_of_a_shared_folder_is_told_what_to_change(tmp_path):
    """Whose files are in the way, and which command helps; not a traceback."""
    os.chmod(tmp_path, 0o2775)
    os.chown(tmp_path, -1, 54321)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    state = SweepState(folder / "state.json", "tiny")
    state.save()
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and path.stat().st_uid == 0 and path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    other = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", *rights]
    done = subprocess.run(
        [*other, sys.executable, "-m", "orchestrator.control", "tiny", "stop"],
        cwd=tmp_path, env={**ENVIRONMENT, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "belongs to root" in done.stderr
    assert "chmod -R g+rwX" in done.stderr
    assert len(done.stderr.splitlines()) == 1
