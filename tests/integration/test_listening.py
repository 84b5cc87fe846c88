"""Nothing of a local sweep can be reached from another machine: its listening sockets, seen while it runs."""

from __future__ import annotations

import ipaddress
import subprocess
import time

import psutil
import pytest

import sweeps

pytestmark = pytest.mark.integration


def tree(process: subprocess.Popen[str]) -> dict[int, str]:
    """Process id -> name, of a process and all it started."""
    names = {}
    for member in _members(process):
        try:
            names[member.pid] = member.name()
        except psutil.NoSuchProcess:
            continue
    return names


def _members(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def listening(names: dict[int, str]) -> set[tuple[str, str]]:
    """(Process, address) of TCP sockets that listen and UDP sockets that receive from anyone."""
    return {
        (names[socket.pid], socket.laddr.ip)
        for socket in psutil.net_connections("inet")
        if socket.pid in names and socket.laddr and not socket.raddr and socket.status in ("LISTEN", "NONE")
    }


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def test_a_local_sweep_listens_on_loopback_only(tmp_path):
    seen: set[tuple[str, str]] = set()
    with sweeps.started(sweeps.write_small(tmp_path)) as process:
        while process.poll() is None:
            seen |= listening(tree(process))
            time.sleep(0.2)
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert {name for name, _ in seen} >= {"gcs_server", "raylet"}, "Ray was not seen at work"
    assert not {(name, address) for name, address in seen if not is_loopback(address)}
