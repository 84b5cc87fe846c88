"""Processes of another machine, or of another boot of this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROLOGUE = """
import os, signal, sys
from pathlib import Path
from workers.processes import identity
from workers.artifacts.holds import Hold
from workers.artifacts.leases import Leases
from workers.artifacts.opening import open_store

identity.machine_id = lambda: {machine!r}
store = open_store({uri!r}, Path({scratch!r}), {endpoint!r})
"""


def begun(
    machine: str, store_uri: tuple[str, str | None], scratch: Path, script: str, *arguments: str
) -> subprocess.Popen[str]:
    """A process that has ``store`` and runs until its script is over; what it prints can be read."""
    uri, endpoint = store_uri
    prologue = PROLOGUE.format(machine=machine, uri=uri, scratch=str(scratch), endpoint=endpoint)
    return subprocess.Popen(
        [sys.executable, "-c", prologue + script, *arguments], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def killed(machine: str, store_uri: tuple[str, str | None], scratch: Path, script: str, *arguments: str) -> None:
    """The same for a process that kills itself at the end of its script."""
    with begun(machine, store_uri, scratch, f"{script}\nos.kill(os.getpid(), signal.SIGKILL)", *arguments) as process:
        assert process.wait() == -9
