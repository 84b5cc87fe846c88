"""Who may reach a Ray, and who is refused in one line: tokens, and versions that differ."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ray_head import IN_COMMON, Head, ray_head

import sweeps

pytestmark = pytest.mark.integration
TOKEN, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
JOINS = "import sys, ray; ray.init(sys.argv[1]); print('joined', len(ray.nodes()))"
"""What anybody on the machine can run."""


@pytest.fixture(scope="module")
def protected():
    with ray_head(1, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as head:
        yield head


@pytest.fixture
def home(tmp_path) -> Path:
    """Of a user without a token."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in sweeps.environment().items() if not name.startswith("RAY_AUTH")}
    common = {name: value for name, value in IN_COMMON.items() if not name.startswith("RAY_AUTH")}
    return {**kept, **common, "HOME": str(home), **variables}


def swept(head: Head, folder: Path, **settings) -> subprocess.CompletedProcess[str]:
    sweep = folder / "small.yaml"
    if not sweep.exists():
        sweeps.write_small(folder)
        text = sweep.read_text().partition("axes:")[0].replace("epochs: 5", "epochs: 2")
        sweep.write_text(text)
    command = [sys.executable, "-u", "-m", "orchestrator.sweep", str(sweep), "--address", head.address]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, **settings)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("--address: 127.0.0.1:")
    for word in words:
        assert word in line
    for secret in (TOKEN, OTHER):
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize("given", ["variable", "file", "file of the home"])
def test_the_right_token_is_sent(given, protected, home, tmp_path):
    variables = {"RAY_AUTH_TOKEN": TOKEN}
    if given != "variable":
        path = home / ".ray" / "auth_token" if given == "file of the home" else tmp_path / "token"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TOKEN)
        variables = {} if given == "file of the home" else {"RAY_AUTH_TOKEN_PATH": str(path)}
    done = swept(protected, tmp_path, env=environment(home, **variables))
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_wrong_token_is_one_line_that_says_whose_it_is(protected, home, tmp_path):
    done = swept(protected, tmp_path, env=environment(home, RAY_AUTH_TOKEN=OTHER))
    refused(done, "it refuses the token of RAY_AUTH_TOKEN")


def test_no_token_is_one_line_that_says_where_to_put_one(protected, home, tmp_path):
    refused(swept(protected, tmp_path, env=environment(home)), "asks for a token", "~/.ray/auth_token")
    disabled = environment(home, RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN=TOKEN)
    refused(swept(protected, tmp_path, env=disabled), "RAY_AUTH_MODE=disabled")


def test_another_version_of_ray_there_is_one_line(home, tmp_path):
    """The version that a process tells is changed when its Ray is imported, as another installation would tell it."""
    (tmp_path / "sitecustomize.py").write_text("import ray\nray.__version__ = '2.0.1'\n")
    path = os.pathsep.join([str(tmp_path), str(sweeps.ROOT)])
    with ray_head(1, PYTHONPATH=path) as head:
        done = swept(head, tmp_path, env=environment(home, RAY_AUTH_MODE="disabled"))
    refused(done, "another version of Ray or Python is there than here", "2.0.1")


def test_another_version_of_ray_here_is_one_line(home, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import ray\nray.__version__ = '2.0.1'\n")
    path = os.pathsep.join([str(tmp_path / "site"), str(sweeps.ROOT)])
    with ray_head(1) as head:
        done = swept(head, tmp_path, env=environment(home, RAY_AUTH_MODE="disabled", PYTHONPATH=path))
    refused(done, "another version of Ray or Python is there than here", "2.0.1")


def test_the_ray_of_a_sweep_lets_nobody_in_and_listens_here_only(home, tmp_path):
    """Whoever can reach its port could run code as this user."""
    sweep = sweeps.write_small(tmp_path)
    sweep.write_text(sweep.read_text().replace("epochs: 5", "epochs: 5000"))
    driver = subprocess.Popen(
        [sys.executable, "-u", "-m", "orchestrator.sweep", str(sweep)], cwd=tmp_path, env=environment(home),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        for line in driver.stdout:
            if "running" in line:
                break
        started = psutil.Process(driver.pid).children(recursive=True)
        (gcs,) = [process for process in started if "gcs_server" in process.name()]
        told = " ".join(word for process in started if process.name() == "raylet" for word in process.cmdline())
        port = re.search(r"--gcs-address=127\.0\.0\.1:(\d+)", told)[1]
        for variables in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": OTHER}, {"RAY_AUTH_MODE": "disabled"}):
            stranger = subprocess.run(
                [sys.executable, "-c", JOINS, f"127.0.0.1:{port}"], cwd=tmp_path, env=environment(home, **variables),
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert stranger.returncode != 0
            assert "joined" not in stranger.stdout
            assert re.search("[Tt]oken|[Aa]uth", stranger.stdout + stranger.stderr)
        listening = {c.laddr.ip for c in gcs.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN}
        assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    finally:
        driver.send_signal(signal.SIGINT)
        for _ in driver.stdout:
            pass
        driver.stdout.close()
        assert driver.wait(timeout=240) == 130
