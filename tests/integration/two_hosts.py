"""Two hosts on one machine, each with a network and files of its own, and the servers of a lab beside them.

Each host is a network namespace on a bridge that leads nowhere else; what it writes under ``runs`` the other does not
see. Ray runs on them with token authentication, MLflow on PostgreSQL, the store on Ceph's gateway where it is
installed, else on moto's server. A cut cable is silent: packets are lost, nothing is refused. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import yaml
from cluster import ROOT, START_S, Service
from ports import free_port

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
CEPH = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "radosgw-admin")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
BUCKET = "lab"


def missing() -> str | None:
    """Why there can be no such lab here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "iproute2 is not installed"
    return None if POSTGRES else "PostgreSQL is not installed: there is no /usr/lib/postgresql"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Host:
    """A machine on the bridge."""

    def __init__(self, network: str, bridge: str, letter: str, number: int, folder: Path) -> None:
        self.name, self.address = f"{bridge}{letter}", f"{network}.{number}"
        self.bridge, self.plug, self.folder = bridge, f"{bridge}p{letter}", folder
        self.runs = folder / "runs"
        self.runs.mkdir(parents=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self.plug, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.name, "link", "set", device, "up")
        ip("link", "set", self.plug, "up")
        self.heal()

    def cut(self) -> None:
        ip("link", "set", self.plug, "nomaster")

    def heal(self) -> None:
        ip("link", "set", self.plug, "master", self.bridge)

    def start(self, command: list[str], runs: Path, environment: dict[str, str]) -> None:
        """A process of this host, which sees its own folder as ``runs``."""
        script = 'mount --bind "$0" "$1" && shift && exec "$@"'
        with (self.folder / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", self.name, "sh", "-c", script, str(self.runs), str(runs), *command],
                    env=environment, stdout=log, stderr=log, cwd=self.folder,
                )
            )  # fmt: skip

    def kill(self) -> None:
        """Everything on it, at once: a machine that lost its power."""
        for _ in range(3):  # a process may start another meanwhile
            for pid in ip("netns", "pids", self.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def down(self) -> None:
        self.kill()
        ip("netns", "del", self.name)


class TwoHosts:
    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"
        self.runs.mkdir(parents=True)
        self.bridge = f"am{os.getpid()}"
        network = f"10.{20 + os.getpid() % 80}.{os.getpid() // 80 % 250}"
        self.server = f"{network}.1"
        self.head = Host(network, self.bridge, "a", 11, folder / "a")
        self.worker = Host(network, self.bridge, "b", 12, folder / "b")
        self.tracking = f"http://{self.server}:{free_port()}"
        self.jobs = f"http://{self.head.address}:8265"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.token = token
        # Not in pytest's own folder, which the server's user may not enter: it refuses to run as root.
        self.database = Path(tempfile.mkdtemp(prefix="two-hosts-postgres-"))
        self.services: list[Service] = []
        self.ceph = all(shutil.which(program) for program in CEPH)

    def up(self) -> None:
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.server}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        self.head.up()
        self.worker.up()
        self._start_store()
        self._start_tracking()
        self.start_head()
        self.start_worker()

    def down(self) -> None:
        for host in (self.head, self.worker):
            with contextlib.suppress(subprocess.CalledProcessError):
                host.down()
            shutil.rmtree(f"/tmp/{host.name}", ignore_errors=True)
        for service in reversed(self.services):
            service.kill()
        if self.ceph:
            subprocess.run(["sh", "tests/radosgw.sh", "stop", str(self.folder / "ceph")], cwd=ROOT, check=False)
        self._postgres("pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.database)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)

    def environment(self, **more: str) -> dict[str, str]:
        """Of every process: Ray's token, and no proxy."""
        own = {name: value for name, value in os.environ.items() if name not in (*PROXY_VARIABLES, "PYTHONPATH")}
        return {
            **own,
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_raylet_start_wait_time_s": "180",
            "OMP_NUM_THREADS": "1",
            **more,
        }

    def start_head(self) -> None:
        command = ["--head", "--port=6379", "--include-dashboard=true", f"--dashboard-host={self.head.address}"]
        self._start_ray(self.head, [*command, "--num-cpus=1"])
        until = time.monotonic() + START_S
        request = urllib.request.Request(f"{self.jobs}/api/jobs/")
        request.add_header("Authorization", f"Bearer {self.token.read_text()}")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        until = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), direct.open(request, timeout=5):
                return
            assert time.monotonic() < until, (self.head.folder / "log").read_text()[-3000:]
            time.sleep(1)

    def start_worker(self) -> None:
        self._start_ray(self.worker, [f"--address={self.head.address}:6379", "--num-cpus=1"])

    def mend_worker(self) -> None:
        """As a service manager would: a node that the cluster has given up ends, and is started again."""
        if all(process.poll() is not None for process in self.worker.processes):
            self.worker.kill()
            self.start_worker()

    def _start_ray(self, host: Host, options: list[str]) -> None:
        # Sockets have short names.
        place = ["--node-ip-address", host.address, "--temp-dir", f"/tmp/{host.name}", "--num-gpus=0"]
        command = ["ray", "start", *options, *place, "--disable-usage-stats", "--block"]
        host.start(command, self.runs, self.environment(**self.keys))

    def _start_store(self) -> None:
        port, forwarded = free_port(), free_port()
        self.endpoint = f"http://{self.server}:{forwarded}"
        if self.ceph:
            folder = self.folder / "ceph"
            subprocess.run(["sh", "tests/radosgw.sh", str(folder), str(port)], cwd=ROOT, check=True, timeout=START_S)
            lines = (folder / "environment").read_text().splitlines()
            self.keys = dict(
                line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export AWS")
            )
        else:
            self.keys = {"AWS_ACCESS_KEY_ID": "PLANTEDKEY9B1C", "AWS_SECRET_ACCESS_KEY": "planted-secret-9b1c"}
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            self._service("S3", command, f"http://127.0.0.1:{port}")
        self.keys["AWS_DEFAULT_REGION"] = "us-east-1"
        forward = [sys.executable, "tests/integration/forward.py", f"{self.server}:{forwarded}", f"127.0.0.1:{port}"]
        self._service("way to the store", forward, self.endpoint)
        self.client().create_bucket(Bucket=BUCKET)

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"],
            region_name=self.keys["AWS_DEFAULT_REGION"],
        )

    def _start_tracking(self) -> None:
        database = self._start_postgres()
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--host", self.server,
            "--port", self.tracking.rpartition(":")[2], "--workers", "1",
            "--artifacts-destination", str(self.folder / "mlflow-artifacts"),
        ]  # fmt: skip
        self._service("MLflow", command, f"{self.tracking}/health", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")

    def _start_postgres(self) -> str:
        folder, port = self.database, free_port()
        shutil.chown(folder, "postgres", "postgres")
        self._postgres("initdb", "-D", "data", "-A", "trust", "-U", "postgres")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        self._postgres("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", settings, "start")
        return f"postgresql+pg8000://postgres@127.0.0.1:{port}/postgres"

    def _postgres(self, program: str, *arguments: str, check: bool = True) -> None:
        user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid}
        command = [str(POSTGRES[-1] / program), *arguments]
        subprocess.run(command, cwd=self.database, check=check, capture_output=True, timeout=240, **user)

    def _service(self, name: str, command: list[str], url: str, **environment: str) -> None:
        service = Service(name, command, url, self.folder / f"{name}.log", **environment)
        self.services.append(service)
        service.start()
        service.wait()

    def lab_file(self, **changes: Any) -> Path:
        content = {
            "runs": str(self.runs),
            "overrides": {
                "store": {"uri": f"s3://{BUCKET}/store", "endpoint": self.endpoint},
                "tracking.uri": self.tracking,
            },
            "environment": {"AWS_DEFAULT_REGION": "us-east-1", "OMP_NUM_THREADS": "1"},
            "secrets": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            "ray": {"address": self.jobs, "temp_dir": f"/tmp/{self.head.name}"},
            **changes,
        }
        path = self.folder / "lab.yaml"
        path.write_text(yaml.safe_dump(content))
        return path


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[TwoHosts]:
    found = TwoHosts(folder)
    try:
        found.up()
        yield found
    finally:
        found.down()
