"""The lab's MLflow server: PostgreSQL behind it, users and passwords before it, and its secrets nowhere."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import postgres
import psutil
import pytest

SERVER = Path(__file__).resolve().parents[2] / "docker" / "image" / "mlflow_server.py"
# With every character that a URI or an ini file takes for its own.
SECRETS = {
    "postgres_password": "p:g/w@rd%25 x",
    "mlflow_admin_password": "adm:n/w@rd%25 x",
    "mlflow_secret_key": "k3y-that-signs-forms",
}
PATIENCE_S = 240


@pytest.fixture
def secrets(tmp_path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, value in SECRETS.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def start(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SERVER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("name", ["postgres_password", "mlflow_admin_password", "mlflow_secret_key"])
def test_a_missing_secret_is_one_line(secrets, name):
    (secrets / name).unlink()
    done = start("--database", "mlflow@127.0.0.1:1/mlflow", "--auth", "basic", "--secrets", secrets)
    assert done.returncode == 1
    assert done.stderr == f"mlflow_server: the secret {name} cannot be read from {secrets}: No such file or directory\n"


def test_an_empty_secret_is_refused(secrets):
    (secrets / "postgres_password").write_text("\n")
    done = start("--database", "mlflow@127.0.0.1:1/mlflow", "--secrets", secrets)
    assert done.stderr == f"mlflow_server: the secret postgres_password in {secrets} is empty\n"


@pytest.mark.parametrize("database", ["postgres:5432/mlflow", "mlflow@postgres", "mlflow"])
def test_an_incomplete_database_is_refused(secrets, database):
    done = start("--database", database, "--secrets", secrets)
    assert done.returncode == 1
    assert done.stderr == f"mlflow_server: --database needs USER@HOST:PORT/NAME, got {database!r}\n"


class Lab:
    """A running server, asked as different users and hosts."""

    def __init__(self, port: int, process: psutil.Popen, log: Path) -> None:
        self.port, self.process, self.log = port, process, log

    def ask(self, path: str, body: object = None, user: str | None = None, host: str | None = None) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if user is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        if host is not None:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def wait(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.ask("/health") == 200:
                    return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"no answer in {PATIENCE_S} s: {self.log.read_text()}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    pytest.importorskip("pg8000")
    pytest.importorskip("flask_wtf", reason="MLflow's basic-auth app needs Flask-WTF: pip install 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("lab")
    for name, value in SECRETS.items():
        (folder / name).write_text(value)
    with postgres.running("mlflow", SECRETS["postgres_password"]) as database:
        port, log = postgres.free_port(), folder / "log"
        host = ["--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", f"127.0.0.1:{port},mlflow:5000"]
        command = [sys.executable, SERVER, "--database", f"mlflow@127.0.0.1:{database}/postgres", "--auth", "basic"]
        command += ["--secrets", folder, "--", *host, "--workers", "1", "--artifacts-destination", folder / "artifacts"]
        with log.open("w") as file:
            process = psutil.Popen(
                [str(word) for word in command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        lab = Lab(port, process, log)
        try:
            lab.wait()
            yield lab
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


ADMIN = f"admin:{SECRETS['mlflow_admin_password']}"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"


@pytest.mark.integration
def test_nobody_comes_in_without_a_password(lab):
    assert lab.ask(SEARCH) == 401
    assert lab.ask(SEARCH, user="admin:wrong") == 401
    assert lab.ask(SEARCH, user="admin:password1234") == 401
    assert lab.ask(SEARCH, user=ADMIN) == 200


@pytest.mark.integration
def test_only_the_named_hosts_are_answered(lab):
    assert lab.ask(SEARCH, user=ADMIN, host="mlflow:5000") == 200
    assert lab.ask(SEARCH, user=ADMIN, host="rebound.example:5000") == 403


@pytest.mark.integration
def test_colleagues_read_and_do_not_change(lab):
    colleague = "ada:a-long-enough-one"
    name, password = colleague.split(":")
    assert lab.ask("/api/2.0/mlflow/users/create", {"username": name, "password": password}, user=ADMIN) == 200
    assert lab.ask("/api/2.0/mlflow/experiments/create", {"name": "mine"}, user=ADMIN) == 200
    by_name = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=mine"
    assert lab.ask(by_name, user=colleague) == 200
    request = {"experiment_id": "1", "new_name": "theirs"}
    assert lab.ask("/api/2.0/mlflow/experiments/update", request, user=colleague) == 403


@pytest.mark.integration
def test_a_driver_logs_in_with_the_credentials_file(lab, tmp_path):
    """As compose.yaml hands it to the Ray nodes: no password in an environment variable."""
    (tmp_path / ".mlflow").mkdir()
    credentials = SECRETS["mlflow_admin_password"].replace("%", "%%")
    (tmp_path / ".mlflow" / "credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = {credentials}\n"
    )
    program = "import mlflow; mlflow.set_experiment('logged'); mlflow.start_run(); mlflow.log_metric('m', 1.0)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment |= {"HOME": str(tmp_path), "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{lab.port}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert lab.ask("/api/2.0/mlflow/experiments/get-by-name?experiment_name=logged", user=ADMIN) == 200


@pytest.mark.integration
def test_no_secret_in_a_command_line_or_the_log(lab):
    processes = [lab.process, *lab.process.children(recursive=True)]
    shown = [" ".join(process.cmdline()) for process in processes] + [lab.log.read_text()]
    assert len(processes) > 1
    for value in SECRETS.values():
        quoted = urllib.parse.quote(value, safe="")
        assert not any(value in text or quoted in text for text in shown)
