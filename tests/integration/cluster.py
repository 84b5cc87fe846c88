"""A two-node Ray cluster, an S3 server behind a proxy and an MLflow server, all of which can be killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import psutil
from ports import free_port
from ray.cluster_utils import Cluster

ROOT = Path(__file__).resolve().parents[2]
START_S = 180


class Service:
    """A server process that is started again after it was killed."""

    def __init__(self, name: str, command: list[str], url: str, log: Path, **environment: str) -> None:
        self.name, self.command, self.url, self.log = name, command, url, log
        self.environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, cwd=ROOT, start_new_session=True
            )

    def wait(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5):
                return
            time.sleep(0.3)
        raise AssertionError(f"{self.name} did not start:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Lab:
    """Everything a sweep on a cluster talks to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        s3, proxy, mlflow = free_port(), free_port(), free_port()
        self.folder, self.bucket = folder, "lab"
        self.endpoint, self.tracking = f"http://127.0.0.1:{proxy}", f"http://127.0.0.1:{mlflow}"
        self.direct_endpoint = f"http://127.0.0.1:{s3}"
        python = sys.executable
        self.s3 = Service(
            "S3",
            [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3)],
            self.direct_endpoint,
            folder / "s3.log",
        )
        self.proxy = Service(
            "store proxy",
            [python, "tests/support/faulty_proxy.py", str(proxy), self.direct_endpoint, "1", "0.02"],
            self.endpoint, folder / "proxy.log",
        )  # fmt: skip
        database = f"sqlite:///{folder / 'mlflow.db'}"
        self.mlflow = Service(
            "MLflow server",
            [python, "-m", "mlflow", "server", "--backend-store-uri", database, "--host", "127.0.0.1",
             "--port", str(mlflow), "--workers", "1", "--artifacts-destination", str(folder / "mlflow-artifacts")],
            f"{self.tracking}/health", folder / "mlflow.log", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )  # fmt: skip
        self.services = [self.proxy, self.mlflow]

    def start(self) -> None:
        for service in (self.s3, self.proxy, self.mlflow):
            service.start()
        head = {"num_cpus": 1, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        self.second = self.cluster.add_node(num_cpus=1)
        self.address = self.cluster.address
        self.s3.wait()
        boto3.client("s3", endpoint_url=self.direct_endpoint).create_bucket(Bucket=self.bucket)
        self.mlflow.wait()

    def stop(self) -> None:
        self.cluster.shutdown()
        for service in (self.s3, *self.services):
            service.kill()

    def mend(self) -> None:
        """Start again what was killed."""
        for service in self.services:
            if service.process is not None and service.process.poll() is not None:
                service.start()
        if not self.second.all_processes.get("raylet") or self._raylet().poll() is not None:
            self.cluster.remove_node(self.second, allow_graceful=False)
            self.second = self.cluster.add_node(num_cpus=1)

    def kill_raylet(self) -> str:
        self._raylet().kill()
        return "raylet"

    def freeze_second(self) -> list[psutil.Process]:
        """Stop the second node's processes as they are: silent, not dead; returns them."""
        raylet = psutil.Process(self._raylet().pid)
        frozen = [raylet, *raylet.children(recursive=True)]
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        return frozen

    def kill_worker(self, chance: random.Random) -> str:
        """One of the processes that work; none may be there."""
        workers = [process for process in self.workers() if "run_" in _title(process) or "Implicit" in _title(process)]
        if not workers:
            return "no worker"
        victim = chance.choice(workers)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        return "worker"

    def started_by(self, *pids: int) -> set[psutil.Process]:
        """All that these processes and the raylets that live have started; none of it may outlive them."""
        raylets = [self._raylet(), self.cluster.head_node.all_processes["raylet"][0].process]
        found: set[psutil.Process] = set()
        for pid in (*pids, *(raylet.pid for raylet in raylets if raylet.poll() is None)):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= set(psutil.Process(pid).children(recursive=True))
        return found

    def workers(self) -> list[psutil.Process]:
        """Of this cluster, whatever else runs on the machine."""
        raylets = [psutil.Process(self._raylet().pid)] if self._raylet().poll() is None else []
        raylets.append(psutil.Process(self.cluster.head_node.all_processes["raylet"][0].process.pid))
        children = [child for raylet in raylets for child in raylet.children(recursive=True)]
        return [process for process in children if _title(process).startswith("ray::")]

    def titles(self) -> list[str]:
        """What the workers of this cluster say they do."""
        return [_title(process) for process in self.workers()]

    def _raylet(self) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = self.second.all_processes["raylet"][0].process
        return process


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    found = Lab(folder)
    try:
        found.start()
        yield found
    finally:
        found.stop()
