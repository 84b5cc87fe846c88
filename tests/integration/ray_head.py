"""A Ray head on loopback with its dashboard and metrics, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import START_S
from ports import free_port

RAY = Path(sys.executable).parent / "ray"
IN_COMMON = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_metrics_report_interval_ms": "5000",
}
"""For the head and the drivers: loopback, else drivers would announce themselves at another address; and one interval,
within twice of which Ray forgets what is not reported again."""


@dataclass(frozen=True)
class Head:
    folder: Path
    """Ray's temp-dir."""
    address: str

    def targets(self) -> list[str]:
        """``HOST:PORT`` of what Prometheus is told to scrape; none yet: empty."""
        file = self.folder / "prom_metrics_service_discovery.json"
        return (
            [target for group in json.loads(file.read_text()) for target in group["targets"]] if file.exists() else []
        )

    def scrape(self) -> str:
        """The text of all targets."""
        content = []
        for target in self.targets():
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=20) as answer:
                content.append(answer.read().decode())
        return "".join(content)


@contextlib.contextmanager
def ray_head(cpus: int, **variables: str) -> Iterator[Head]:
    """``variables``: of its environment, in place of those in common."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # a socket's path must stay short
    port = free_port()
    options = {
        "port": port, "temp-dir": folder, "num-cpus": cpus, "include-dashboard": "true", "dashboard-port": free_port(),
        "dashboard-agent-listen-port": free_port(), "metrics-export-port": free_port(), "node-ip-address": "127.0.0.1",
    }  # fmt: skip
    environment = {
        **os.environ,
        **IN_COMMON,
        "RAY_USAGE_STATS_ENABLED": "0",
        "AUTOSCALER_METRIC_PORT": str(free_port()),
        "DASHBOARD_METRIC_PORT": str(free_port()),
        **variables,
    }
    command = [RAY, "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    head = Head(folder, f"127.0.0.1:{port}")
    try:
        until = time.monotonic() + START_S
        while not head.targets():
            assert process.poll() is None, (folder / "start.log").read_text()
            assert time.monotonic() < until, (folder / "start.log").read_text()
            time.sleep(0.5)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)  # to the one that blocks: it ends what it started
        process.wait(timeout=START_S)
        shutil.rmtree(folder, ignore_errors=True)
