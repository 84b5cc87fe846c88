"""Through the real kubectl to a server that answers like Kubernetes; the test plays KubeRay."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterator

import labs
import pytest
import yaml
from api_server import ApiServer
from crd import problems

from orchestrator.submit import main

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]
SECTION = {**labs.LAB["kuberay"], "namespace": "lab", "context": "lab"}


@pytest.fixture
def api(schema, tmp_path, monkeypatch) -> Iterator[ApiServer]:
    server = ApiServer(functools.partial(problems, schema))
    server.write_kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def submit(tmp_path, capfd) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; returns its exit status and what it printed."""
    lab, sweep = labs.write_lab(tmp_path, kuberay=SECTION), labs.write_sweep(tmp_path)

    def submit(*arguments: str) -> tuple[int, str, str]:
        place = [] if arguments[0] in ("--status", "--stop", "--follow") else [str(sweep)]
        status = main([*place, *arguments, "--to", "kuberay", "--lab", str(lab)])
        printed = capfd.readouterr()  # kubectl prints too
        return status, printed.out, printed.err

    return submit


def test_what_arrives_is_what_the_dry_run_shows(api, submit):
    _, shown, _ = submit("--dry-run")
    status, output, _ = submit("--detach")
    ((name, arrived),) = api.rayjobs.items()
    assert status == 0
    assert arrived == yaml.safe_load(shown)
    assert output.startswith(f"submitted as {name}\n")


def test_a_job_that_has_not_ended_is_not_sent_twice_and_one_that_has_is_a_new_attempt(api, submit):
    submit("--detach")
    ((name, first),) = api.rayjobs.items()
    for state in ({}, {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}):
        first["status"] = state
        status, _, error = submit("--detach", "--set", "train.lr=0.1")
        assert status == 2
        assert f"there as {name}" in error
    first["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}
    assert submit("--detach")[0] == 0
    assert list(api.rayjobs) == [name, f"{name[:-1]}2"]


@pytest.mark.parametrize(
    ("end", "expected", "word"),
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, 0, "complete, succeeded"),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, 130, "complete, stopped"),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "Job entrypoint command failed with exit"
          " code 2, last available logs"}, 2, "failed, failed: Job entrypoint"),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, 1, "failed: DeadlineExceeded"),
    ],
)  # fmt: skip
def test_a_job_is_followed_to_its_end(api, submit, end, expected, word):
    submit("--detach")
    ((name, job),) = api.rayjobs.items()

    def play() -> None:
        assert api.job_was_read.wait(120)
        job["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "jobId": "swept-x"}
        assert api.log_was_read.wait(120)
        job["status"] = end

    player = threading.Thread(target=play)
    player.start()
    status, output, _ = submit("--follow", name)
    player.join()
    assert status == expected
    assert output.count(api.log) == 1
    assert output.splitlines()[-1].startswith(f"{name}: {word}")
    assert submit("--status", name)[1].startswith(f"{name}: {word}")


def test_an_output_that_broke_off_goes_on_where_it_was(api, submit):
    """A server ends what is followed for hours, in the middle of a line, and kubectl takes it for the end."""
    submit("--detach")
    ((name, job),) = api.rayjobs.items()
    job["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "jobId": "swept-x"}
    parts = ["first\nsec", "first\nsecond\n", "first\nsecond\nthird\n"]

    def play() -> None:
        for part in parts:
            api.log = part
            api.log_was_read.clear()
            assert api.log_was_read.wait(120)
        job["status"] = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}

    player = threading.Thread(target=play)
    player.start()
    status, output, _ = submit("--follow", name)
    player.join()
    assert status == 0
    assert "first\nsecond\nthird\n" in output
    assert output.count("first") == 1


def test_a_job_that_has_not_begun_is_taken_back(api, submit):
    submit("--detach")
    (name,) = api.rayjobs
    status, output, _ = submit("--stop", name)
    assert (status, output) == (0, f"{name}: had not begun, and was withdrawn\n")
    assert not api.rayjobs


def test_a_server_that_knows_other_fields_refuses_in_one_line(api, submit):
    api.problems = lambda content: ['unknown field "spec.entrypoint"']
    status, _, error = submit("--detach")
    assert status == 2
    assert 'unknown field "spec.entrypoint"' in error
    assert error.count("\n") == 1


def test_a_server_that_is_away_is_one_line(api, submit):
    api.close()
    status, _, error = submit("--status", "x")
    assert status == 2
    assert error.startswith("kuberay: kubectl get: ")
    assert error.count("\n") == 1


def test_a_job_that_is_not_there(api, submit):
    status, _, error = submit("--status", "nothing")
    assert status == 2
    assert 'rayjobs.ray.io "nothing" not found' in error
