"""A Ray cluster that is there, through the job server of its head node (``http://HEAD:8265``).

The sweep file travels as the job's working directory, with this checkout's code or without. Where the cluster asks for
a token, it is read as Ray reads it: ``RAY_AUTH_MODE=token`` with ``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH`` in the
environment of this command.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from aream.config import config
from aream.errors import ConfigError
from orchestrator.submission.job import Job
from orchestrator.submission.readable_yaml import readable

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from orchestrator.submission.targets.ray.client import JobServer

PACKAGES = ("aream", "workers", "orchestrator")
ROOT = Path(__file__).resolve().parents[4]
GRACE_S = 15
"""Beyond the time to save: Ray kills what is left, and writes down that it did."""
MAX_COMMAND = 100_000
"""Bytes; the system takes 128 KiB as one argument."""


@config
class Config:
    address: str
    """Address of the job server, ``http://HOST:PORT`` or ``https://``."""
    code: Literal["sent", "installed"] = "sent"
    """Whose code runs: this checkout's, sent with each job, or the nodes' own. An image brings its own."""
    image: str | None = None
    """Container image with this package; every process of a job runs in one (``image_uri``; nodes need podman)."""
    temp_dir: str = "/tmp/ray"
    """``--temp-dir`` of the nodes: with an image the one folder that containers share with their node."""
    stop_s: int = 120
    """Seconds a job has to save its state when it is stopped."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"address: need http://HOST:PORT of the job server, got {self.address!r}")
        if parts.username or parts.password:
            raise ConfigError("address: a user or password does not belong here: set RAY_AUTH_TOKEN_PATH")
        if self.stop_s < 1:
            raise ConfigError(f"stop_s: need a positive number, got {self.stop_s}")


def open_target(settings: Config) -> RayJobs:
    return RayJobs(settings)


class RayJobs:
    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def render(self, job: Job) -> str:
        request = {
            "submission_id": f"{_prefix(job)}1",
            "entrypoint": self._entrypoint(job, f"{_prefix(job)}1"),
            "runtime_env": self._runtime_env(job, "WORKING_DIR"),
            "metadata": _metadata(job),
        }
        lines = [
            f"# POST {self.settings.address}/api/jobs/",
            "# The id ends with the attempt: one more than the cluster knows.",
        ]
        text = "\n".join([*lines, readable(request)])
        if job.image:
            return text
        code = f"{', '.join(PACKAGES)} of {job.revision}, and " if self.settings.code == "sent" else ""
        return f"{text}\n# WORKING_DIR holds {code}{_file(job)}:\n{job.sweep}"

    def submit(self, job: Job) -> str:
        server = self._server()
        known = server.jobs()
        for found in known:
            if (found.metadata or {}).get("aream.folder") == job.folder and not found.status.is_terminal():
                raise ConfigError(f"{job.name}: is {found.status.value.lower()} there as {found.submission_id}")
        attempts = [found.submission_id.removeprefix(_prefix(job)) for found in known]
        job_id = f"{_prefix(job)}{max((int(number) for number in attempts if number.isdecimal()), default=0) + 1}"
        with _working_dir(job, self.settings.code) as folder:
            server.submit(job_id, self._entrypoint(job, job_id), self._runtime_env(job, str(folder)), _metadata(job))
        return job_id

    def status(self, job_id: str) -> str:
        return _described(self._server().job(job_id))

    def follow(self, job_id: str) -> int:
        found = self._server().output(job_id, lambda text: print(text, end="", flush=True))
        print(f"{job_id}: {_described(found)}")
        if found.status.value == "SUCCEEDED":
            return 0
        if found.status.value == "STOPPED":
            return 130
        code = found.driver_exit_code
        return 1 if code is None else code if code >= 0 else 128 - code

    def stop(self, job_id: str) -> None:
        server = self._server()
        server.stop(job_id)
        server.ended(job_id, self.settings.stop_s + GRACE_S)

    def _server(self) -> JobServer:
        from orchestrator.submission.targets.ray.client import JobServer  # ray takes a second to import

        return JobServer(self.settings.address)

    def _entrypoint(self, job: Job, job_id: str) -> str:
        """A line of ``sh``: exec, so that the signal to stop reaches the sweep itself."""
        needed = [f': "${{{name}:?is not set on the node that drives the sweep}}"' for name in job.secrets]
        if not job.image:
            return "; ".join([*needed, f"exec {shlex.join(job.command(_file(job)))}"])
        if not Path(job.runs).is_relative_to(self.settings.temp_dir):
            raise ConfigError(
                f"runs: given {job.runs}; with an image, Ray shows a container no folder of its node but"
                f" {self.settings.temp_dir} (ray.temp_dir): runs must lie in it"
            )
        # An image excludes a working directory: the sweep travels in the command.
        path, end = f"{job.runs}/submitted/{job_id}.yaml", f"END_OF_{job.digest}"
        folder = f"mkdir -p {shlex.quote(str(Path(path).parent))}"
        written = f"cat >{shlex.quote(path)} <<'{end}'\n{job.sweep.rstrip()}\n{end}"
        text = "\n".join([*needed, folder, written, f"exec {shlex.join(job.command(path))}"])
        if (size := len(text.encode())) > MAX_COMMAND:
            raise ConfigError(f"{job.name}: with an image, a sweep may have {MAX_COMMAND} bytes, and has {size}")
        return text

    def _runtime_env(self, job: Job, folder: str) -> dict[str, Any]:
        variables = {**job.environment, "RAY_JOB_STOP_WAIT_TIME_S": str(self.settings.stop_s)}
        place = {"image_uri": job.image} if job.image else {"working_dir": folder}
        return {**place, "env_vars": variables}


def _prefix(job: Job) -> str:
    return f"{job.name}-{job.digest}-"


def _file(job: Job) -> str:
    return f"{job.name}.yaml"


def _metadata(job: Job) -> dict[str, str]:
    return {"aream.sweep": job.name, "aream.folder": job.folder, "aream.revision": job.revision}


def _described(found: JobDetails) -> str:
    """State, how long, and why."""
    end = found.end_time or time.time() * 1000
    took = f", {(end - found.start_time) / 1000:.0f} s" if found.start_time else ""
    code = f", exit status {found.driver_exit_code}" if found.driver_exit_code else ""
    why = f": {found.message.splitlines()[0]}" if found.message and found.status.value == "FAILED" else ""
    return f"{found.status.value.lower()}{took}{code}{why}"


@contextmanager
def _working_dir(job: Job, code: str) -> Iterator[Path]:
    """The files that travel: the sweep, and the code where the nodes have none of it."""
    with tempfile.TemporaryDirectory(prefix="aream-submit-") as name:
        folder = Path(name)
        (folder / _file(job)).write_text(job.sweep, encoding="utf-8")
        if code == "sent":
            for package in PACKAGES:
                shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
            # There is no git where this arrives.
            (folder / "workers" / "REVISION").write_text(job.revision, encoding="utf-8")
        yield folder
