"""Identity of a process on a machine, distinct from that of a later process with the same pid."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

TOKEN = re.compile(r"([0-9a-f]{12})-([0-9]{1,10})-([0-9]{1,20})")


@dataclass(frozen=True)
class Process:
    machine: str
    """12 hex digits: one boot of one machine, and where the numbers of its processes are valid."""
    pid: int
    started: int
    """Clock ticks after boot; 0 where the system does not tell."""

    @classmethod
    def this(cls) -> Process:
        return _this(os.getpid())

    @classmethod
    def parse(cls, token: str) -> Process | None:
        match = TOKEN.fullmatch(token)
        return cls(match[1], int(match[2]), int(match[3])) if match else None

    def token(self) -> str:
        return f"{self.machine}-{self.pid}-{self.started}"

    def known_dead(self) -> bool:
        """True if it ran on this machine and has ended; False if that cannot be known from here."""
        if self.started <= 0 or self.machine != machine_id():
            return False
        try:
            return _start_tick(self.pid) != self.started
        except OSError:  # no more open files, or /proc hides what others run
            return False


@functools.cache
def _this(pid: int) -> Process:
    try:
        started = _start_tick(pid) or 0
    except OSError:
        started = 0
    return Process(machine_id(), pid, started)


@functools.cache
def machine_id() -> str:
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        if os.path.exists(path):
            parts.append(Path(path).read_text(encoding="utf-8").strip())
    if os.path.exists("/proc/self/ns/pid"):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start_tick(pid: int) -> int | None:
    """None where no such process runs (one that is dead but not yet waited for counts as gone).

    Raises:
        OSError: it runs, or may run, and the system does not tell more.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        raise
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
