"""A node's report about itself before a sweep runs there: code, GPUs, content, store, disk.

Light to import: a node must answer soon, whatever its torch does.
"""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.errors import AreamError
from workers.artifacts.opening import open_store
from workers.processes import temporary
from workers.processes.provenance import code_revision, source_digest
from workers.staging.cache import in_words

if TYPE_CHECKING:
    from workers.contents import Content

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "ray")
"""Libraries that can change a result, and Ray, through which nodes communicate."""
GPU_S = 180.0
"""Longest that torch may take to be imported and to use each GPU once."""
PROBE_PATIENCE_S = 20.0
SHARED_MEMORY = Path("/dev/shm")
LEAST_FREE, FREE_ENOUGH = 256 << 20, 2 << 30
"""Bytes of disk below which a node is refused, and below which somebody should know."""
ENOUGH_SHARED = 1 << 30
SPILL_LIMIT = 0.95
"""Used part of a disk above which Ray writes no object to it."""


@dataclass(frozen=True)
class NodeFinding:
    column: str
    """Column of the table of checks."""
    words: str
    hard: bool = True
    """True if the sweep is refused for it."""


@dataclass(frozen=True)
class Facts:
    host: str
    python: str
    revision: str
    sources: str
    """Digest of our modules."""
    versions: Mapping[str, str]


def facts() -> Facts:
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return Facts(socket.gethostname(), platform.python_version(), code_revision(), source_digest(), versions)


def differences(driver: Facts, node: Facts) -> Iterator[NodeFinding]:
    """Equal keys promise equal bytes only where the same code makes them."""
    if node.sources != driver.sources:
        yield NodeFinding("code", f"its modules differ from the driver's ({node.revision}; driver: {driver.revision})")
    if node.python.split(".")[:2] != driver.python.split(".")[:2]:
        yield NodeFinding("code", f"Python {node.python}; the driver has {driver.python}")
    elif node.python != driver.python:
        yield NodeFinding("code", f"Python {node.python}; the driver has {driver.python}", hard=False)
    for name, version in driver.versions.items():
        if node.versions[name].partition("+")[0] != version.partition("+")[0]:
            yield NodeFinding("code", f"{name} {node.versions[name]}; the driver has {version}")
        elif node.versions[name] != version:
            yield NodeFinding("code", f"{name} {node.versions[name]}; the driver has {version}", hard=False)


class NodeProbe:
    """The checks that run on a node; each returns what is wrong."""

    def now(self) -> float:
        """Seconds since the epoch, by this node's clock."""
        return time.time()

    def facts(self) -> Facts:
        return facts()

    def gpu(self, count: float) -> list[NodeFinding]:
        return gpu_findings(count)

    def store(self, uri: str | None, default: Path, endpoint: str | None, probe: str) -> list[NodeFinding]:
        """Args: probe: an object that the driver has just written."""
        try:
            storage = open_store(uri, default, endpoint).storage
            storage.with_patience(PROBE_PATIENCE_S).read(probe)
            storage.check()
        except FileNotFoundError:
            where = default if uri is None else uri
            words = f"what the driver writes to {where} is not seen here: need a folder that all nodes share, or s3://"
            return [NodeFinding("store", words)]
        except (AreamError, OSError) as error:
            return [NodeFinding("store", _one_line(error))]
        return []

    def disk(self, places: Sequence[Path]) -> list[NodeFinding]:
        return list(disk_findings(places))

    def contents(self, expected: Sequence[tuple[Content, str]], reread: bool = False) -> list[NodeFinding]:
        """
        Args:
            expected: what the sweep reads, with what the driver found it to be.
            reread: whether to read it though nothing about its files changed.
        """
        findings = []
        for content, identity in expected:
            try:
                found = content.remembered_identity(reread=reread)
            except (AreamError, OSError) as error:
                findings.append(NodeFinding(content.column, f"{content.key}: {_one_line(error)}"))
                continue
            if found != identity:
                places = ", ".join(content.local_paths())
                words = f"other content than the driver's ({found[:12]}; driver: {identity[:12]}) in {places}"
                findings.append(NodeFinding(content.column, f"{content.key}: {words}"))
        return findings


def gpu_findings(count: float) -> list[NodeFinding]:
    """Args: count: GPUs that Ray was told this node has."""
    program = Path(__file__).with_name("gpu_probe.py")
    try:
        # -P: the folder of the program holds modules of other names than torch means.
        done = subprocess.run([sys.executable, "-P", str(program)], capture_output=True, text=True, timeout=GPU_S)
    except subprocess.TimeoutExpired:
        return [
            NodeFinding("gpu", f"torch has not used its GPUs within {GPU_S:g} s; look at nvidia-smi and dmesg there")
        ]
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [NodeFinding("gpu", f"torch cannot be tried (exit status {done.returncode}): {last[:300]}")]
    words = gpu_words(found, count)
    return [NodeFinding("gpu", words)] if words else []


def gpu_words(found: Mapping[str, Any], count: float) -> str | None:
    """Describe a problem in the report of ``gpu_probe``; None: there is none."""
    if found["torch_cuda"] is None:
        return f"torch {found['torch']} is built without CUDA, and the sweep asks for a GPU"
    if found["driver_cuda"] is None:
        return "no NVIDIA driver (libcuda.so.1), and the sweep asks for a GPU"
    if found["error"]:
        versions = f"torch is built for CUDA {found['torch_cuda']}, the driver knows up to {found['driver_cuda']}"
        return f"{versions}: {found['error']}"
    if len(found["gpus"]) < count:
        return f"Ray was told of {count:g} GPUs, torch sees {len(found['gpus'])}"
    return None


def disk_findings(places: Sequence[Path]) -> Iterator[NodeFinding]:
    """Args: places: folders that workers write to."""
    for place in dict.fromkeys(places):
        try:
            beside = temporary.new_path(place)
            beside.write_bytes(b"probe")
            beside.unlink()
            free = shutil.disk_usage(place).free
        except OSError as error:
            yield NodeFinding("disk", f"{place} cannot be written: {error.strerror or error}")
            continue
        if free < FREE_ENOUGH:
            yield NodeFinding("disk", f"{place} has {in_words(free)} free", hard=free < LEAST_FREE)
    usage = shutil.disk_usage(tempfile.gettempdir())
    if usage.used / usage.total > SPILL_LIMIT:
        words = f"{tempfile.gettempdir()} is {usage.used / usage.total:.0%} full; Ray writes no object to it"
        yield NodeFinding("disk", f"{words} above {SPILL_LIMIT:.0%}", hard=False)
    if SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(SHARED_MEMORY).free) < ENOUGH_SHARED:
        words = f"{SHARED_MEMORY} has {in_words(free)} free, which Ray's objects share; in a container raise --shm-size"
        yield NodeFinding("disk", words, hard=False)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} (and {len(lines) - 1} more)"
