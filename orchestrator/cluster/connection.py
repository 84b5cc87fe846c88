"""Connecting to Ray: a cluster that is there, or a local one that listens on loopback only."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from aream.errors import ConfigError
from orchestrator.cluster.access import REFUSED_TOKEN, said_below_python, token_advice
from orchestrator.cluster.cores import usable_cores
from orchestrator.cluster.resources import Node, refuse_unsatisfiable
from orchestrator.spec.spec import SweepSpec
from workers import plugins
from workers.staging import cache

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Else an object that nobody wants any more keeps its memory for a second, in which a worker decodes a hundred images.
os.environ.setdefault("RAY_free_objects_period_milliseconds", "100")

import ray
import torch

log = logging.getLogger(__name__)

CONNECT_S = 10.0
START_TRIES = 3
SESSION_BYTES = 16 << 20
"""Of logs and addresses, without objects."""
_started_here = False
"""True if this process started the cluster: it then gets no further nodes, whatever the sweep file says."""


def connect(address: str | None, spec: SweepSpec) -> None:
    """Start or join a cluster, and check that it can ever run what the sweep asks for.

    Raises:
        ConfigError: no cluster at the address, or more asked for a job than any node has: Ray would wait for ever.
    """
    global _started_here
    _started_here = address is None
    own = plugins.handed_on()
    variables = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **cache.handed_on(), **own.get("env_vars", {})}
    workers = {**own, "env_vars": variables}
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        gpus = None if torch.cuda.device_count() else 0  # Ray also counts GPUs that this torch cannot use
        start(num_cpus=usable_cores(), num_gpus=gpus, runtime_env=workers, **quiet)
    else:
        _refuse_silence(address)
        _join(address, runtime_env=workers, **quiet)
    if not autoscales(spec):
        refuse_unsatisfiable(spec.resources, nodes(), ["trial", *(["segmentation"] if spec.segmentation else [])])


def _join(address: str, **options: Any) -> None:
    """
    Raises:
        ConfigError: there is no cluster, it asks for another token, or it runs another version of Ray or Python.
    """
    with said_below_python() as said:
        try:
            ray.init(address, **options)
            return
        except Exception as error:  # whatever it is, nothing has run
            ray.shutdown()
            reason = " ".join(str(error).split()) or type(error).__name__
            if REFUSED_TOKEN.search(f"{reason}\n{said.read_text(errors='replace', encoding='utf-8')}"):
                reason = token_advice()
            elif "ersion mismatch" in reason:
                reason = f"another version of Ray or Python is there than here; use one on both sides ({reason})"
            else:
                reason = f"no Ray cluster there: {reason}"
            raise ConfigError(f"--address: {address}: {reason}") from error


def start(**options: Any) -> None:
    """A cluster on this machine. Ray gives itself 30 s, which a busy machine may not keep: then once more.

    Raises:
        ConfigError: it does not come up.
        OSError: the disk of its session is full.
    """
    _refuse_full_disk()
    for attempt in range(1, START_TRIES + 1):
        try:
            # Without the word, Ray joins whatever cluster was last started on this machine.
            with said_below_python():
                ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
            return
        except Exception as error:  # Ray raises nothing narrower
            ray.shutdown()
            if attempt == START_TRIES:
                raise ConfigError(f"Ray does not start on this machine, tried {attempt} times: {error}") from error
            log.warning("Ray did not start, it is tried again: %s", error)


def _refuse_full_disk() -> None:
    """Ray itself would wait for a file that it cannot write.

    Raises:
        OSError: naming the folder.
    """
    named = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ]
    folder = Path(named[0] if named else "/tmp")
    if folder.is_dir() and shutil.disk_usage(folder).free < SESSION_BYTES:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for Ray's session", str(folder))


def autoscales(spec: SweepSpec) -> bool:
    """True if the cluster may start further nodes."""
    return spec.resources.autoscaling and not _started_here


def nodes() -> list[Node]:
    """The nodes that are up."""
    return [Node(node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"]]


def free() -> dict[str, tuple[float, float]]:
    """Return name -> (free, total) for each resource of the cluster."""
    left = ray.available_resources()
    return {name: (left.get(name, 0.0), most) for name, most in ray.cluster_resources().items()}


def _refuse_silence(address: str) -> None:
    """Ray itself would ask a host that does not answer for minutes.

    Raises:
        ConfigError: nothing listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # "auto": Ray looks for a cluster of this machine
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--address: {address}: no Ray cluster there: {error}") from error


def disconnect() -> None:
    ray.shutdown()
