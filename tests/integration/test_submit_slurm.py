"""A sweep sent to a real Slurm of two nodes: it is pre-empted, queued again, loses Ray, is stopped; and goes on."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import slurm_lab
from slurm_lab import SlurmLab

import sweeps

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(slurm_lab.missing() is not None, reason=f"no Slurm here: {slurm_lab.missing()}"),
]

HOSTILE = """it's a "lab"; $(touch pwned) `id`"""
"""A folder that sbatch and bash could each misread."""
EPOCHS = 20
WAIT_S = 240
SECRET = "planted-6f1d0c"
CALL = """
import grpc, sys
claim = sys.stdin.read()
channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
try:
    call(b"", timeout=30, wait_for_ready=True, metadata=[("authorization", claim)] if claim else None)
    print("OK")
except grpc.RpcError as error:
    print(error.code().name)
"""
"""Ask Ray's head for its nodes; the claim comes in where no command line shows it."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[SlurmLab]:
    with slurm_lab.slurm_lab(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a sweep of three trainings that fork from one warm-up, and a lab file."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    text = sweeps.SMALL.replace("runs: {runs}\n", "").replace("epochs: 5", f"epochs: {EPOCHS}")
    text = text.partition("segmentation:")[0].format().replace("[0.25, 0.35]", "[0.25, 0.3, 0.35]")
    (folder / "small.yaml").write_text(text)
    secrets = folder / "secrets.env"
    secrets.touch(mode=0o600)
    secrets.write_text(f"PLANTED={SECRET}\n")
    write_lab(folder)
    return folder


def write_lab(folder: Path, nodes: int = 2) -> None:
    lab = {
        "runs": str(folder / "runs"),
        "shared": True,
        "overrides": {"tracking.uri": f"sqlite:///{folder.parent}/mlflow.db"},
        "environment": {"PYTHONPATH": str(sweeps.ROOT), "OMP_NUM_THREADS": "1", "RAY_raylet_start_wait_time_s": "180"},
        "secrets": ["PLANTED"],
        "worker": {"cpus": 1, "gpus": 0, "memory_gib": 3, "least": nodes, "most": nodes},
        "slurm": {
            "partition": "work",
            "venv": str(Path(sys.prefix)),
            "save_s": 40,
            "secrets_file": str(folder / "secrets.env"),
        },
    }
    (folder / "lab.yaml").write_text(json.dumps(lab))


def submitting(slurm: SlurmLab, place: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "orchestrator.submit", "--to", "slurm", "--lab", str(place / "lab.yaml")]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=sweeps.ROOT, env={**slurm.environment, "PYTHONPATH": str(sweeps.ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def submit(slurm: SlurmLab, place: Path, *arguments: str) -> tuple[int, str]:
    with submitting(slurm, place, *arguments) as process:
        output, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, output


def wait_for(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.3)


class Job:
    """What can be seen of a job from outside."""

    def __init__(self, place: Path, job_id: str) -> None:
        self.id, self.folder = job_id, place / "runs/small/slurm" / job_id
        self.log = self.folder.with_name(f"{job_id}.log")

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, pattern: str) -> None:
        wait_for(lambda: re.search(pattern, self.text(), re.DOTALL), f"{pattern} in\n{self.text()}")

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_JOB_ID") == self.id:
                    found.append(process)
        return found

    def named(self, word: str) -> psutil.Process:
        """The first process with a word in its command."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any(word in part for part in process.cmdline()[:4]):
                    found.append((process.create_time(), process.pid))
        return psutil.Process(min(found)[1])

    def nothing_is_left(self) -> None:
        wait_for(lambda: not self.processes(), f"processes of job {self.id} to end")
        assert not list(Path("/tmp").glob(f"ray-{self.id}-*"))
        assert not list(self.folder.rglob("token"))


def job_of(process: subprocess.Popen[str], place: Path) -> Job:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("submitted as "), line + process.stdout.read()
    return Job(place, line.split()[-1])


def finished_stages(place: Path) -> set[str]:
    logs = (place / "runs/small/logs").glob("*.log*")
    return {key for log in logs for key in re.findall(r"finished (\w+-[0-9a-f]+) in", log.read_text())}


def test_preempted_and_queued_again_it_completes_without_doing_anything_twice(slurm, place):
    with submitting(slurm, place, str(place / "small.yaml")) as process:
        job = job_of(process, place)
        job.wait_for("trial running")
        the_token_is_kept(slurm, job)
        job.wait_for(r"trial done .*trial running epoch [3-9]/.*epoch [4-9]/")
        before = finished_stages(place)
        slurm.run("sbatch", "--partition=urgent", "--nodes=2", "--ntasks-per-node=1", "--output=/dev/null",
                  stdin="#!/bin/sh\nsleep 1\n")  # fmt: skip
        job.wait_for("started again 1 times, on")
        assert not (before - finished_stages(place))
        output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert "Ray is up: 2 nodes" in output
    assert "interrupted; run the same command again to go on" in output
    assert re.search(r"completed, on n\[1-2\], .*started again 1 times, exit status 0", output)
    assert any(key.startswith("train_cam-") for key in before)
    times = sweeps.times_run(place)
    assert {key: times[key] for key in before} == dict.fromkeys(before, 1)
    assert {entry["config"]["method.alpha_low"] for entry in sweeps.summary(place)["ranking"]} == {0.25, 0.3, 0.35}
    job.nothing_is_left()
    no_secret_is_kept(slurm, place)
    assert not list(place.rglob("pwned"))


def the_token_is_kept(slurm: SlurmLab, job: Job) -> None:
    """Only its owner reads it, no command shows it, and Ray answers nobody who lacks it."""
    (file,) = job.folder.rglob("token")
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text().strip()
    assert len(token) >= 40
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert not any(token in part for part in process.cmdline())
    address = re.findall(r"head at (\S+)", job.text())[-1]
    assert address.startswith(slurm.address("n1"))
    for claim, answer in (("", "UNAUTHENTICATED"), ("Bearer wrong", "UNAUTHENTICATED"), (f"Bearer {token}", "OK")):
        said = slurm.run(*slurm.host_command("n2", sys.executable, "-c", CALL, address), stdin=claim)
        assert said == answer, claim


def no_secret_is_kept(slurm: SlurmLab, place: Path) -> None:
    files = [*slurm.folder.rglob("*"), *place.rglob("*"), place.parent / "mlflow.db"]
    kept = [file for file in files if file.is_file() and file.name != "secrets.env"]
    assert len(kept) > 20
    assert not [file for file in kept if SECRET.encode() in file.read_bytes()]


def test_ray_lost_and_the_job_told_to_move_without_notice(slurm, place):
    with submitting(slurm, place, str(place / "small.yaml")) as process:
        job = job_of(process, place)
        job.wait_for(r"trial running epoch [3-9]/")
        job.named("gcs_server").send_signal(signal.SIGKILL)
        job.wait_for(r"Ray's head is gone.*started again 1 times, on.*running epoch")
        slurm.run("scontrol", "requeue", job.id)
        job.wait_for(r"Slurm ends the job.*started again 2 times, on")
        output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    assert len(sweeps.summary(place)["ranking"]) == 6
    assert max(sweeps.times_run(place).values()) <= 3
    job.nothing_is_left()


def test_stopped_it_saves_its_state_and_one_node_listens_on_loopback_only(slurm, place):
    write_lab(place, nodes=1)
    sweep = place / "small.yaml"
    sweep.write_text(sweep.read_text().replace(f"epochs: {EPOCHS}", "epochs: 400"))  # it runs until it is stopped
    with submitting(slurm, place, str(sweep), "--detach") as process:
        job = job_of(process, place)
        assert process.wait(timeout=240) == 0
    job.wait_for(r"trial running epoch [3-9]/")
    assert job.named("orchestrator.sweep").environ()["PLANTED"] == SECRET
    status, output = submit(slurm, place, str(sweep))
    assert (status, output) == (2, f"small: is running there as {job.id}\n")
    assert "running, on n1" in submit(slurm, place, "--status", job.id)[1]
    open_to_all = listening(job)
    status, output = submit(slurm, place, "--stop", job.id)
    assert status == 0
    assert "stopped, its state saved" in output
    status, output = submit(slurm, place, "--follow", job.id)
    assert status == 130, output
    assert "interrupted; run the same command again to go on" in output
    job.nothing_is_left()
    assert {name for name, _ in open_to_all} <= {"srun"}, open_to_all


def listening(job: Job) -> set[tuple[str, str]]:
    """(Process, address) of a job's sockets that other machines reach."""
    return {
        (process.name(), socket.laddr.ip)
        for process in job.processes()
        for socket in process.net_connections("tcp")
        if socket.status == "LISTEN" and socket.laddr.ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    }
