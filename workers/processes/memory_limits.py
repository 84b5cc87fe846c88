"""Bytes of memory that the machine, a scheduler or a container lets this process have, and that it has."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from workers.processes.control_groups import GROUPS, PROC, group_folders

SHARED = Path("/dev/shm")
LIMITS = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
"""File of a group's limit -> of what it uses, in versions 2 and 1."""


def usable_memory(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Of this machine, or of the narrowest control group."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _groups(proc, groups))])


def free_shared_memory(proc: Path = PROC, groups: Path = GROUPS, shared: Path = SHARED) -> int:
    """For what processes hand each other: what is free in /dev/shm, and in the control groups that pay for it."""
    with contextlib.suppress(OSError):
        return max(0, min([shutil.disk_usage(shared).free, *(limit - used for limit, used in _groups(proc, groups))]))
    return 0


def forget_peak(proc: Path = PROC) -> None:
    """Where the system allows it: elsewhere the peak stays that of the process's life."""
    with contextlib.suppress(OSError):
        (proc / "self" / "clear_refs").write_text("5", encoding="utf-8")


def peak_bytes(proc: Path = PROC) -> int:
    """The most that this process held since :func:`forget_peak`."""
    for line in (proc / "self" / "status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _groups(proc: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each group that has a limit; the content of files does not count, which is given up for more."""
    for folder in group_folders("memory", proc, groups):
        for limit, used in LIMITS.items():
            with contextlib.suppress(OSError, ValueError):
                most, now = (
                    int((folder / limit).read_text(encoding="utf-8")),
                    int((folder / used).read_text(encoding="utf-8")),
                )
                yield most, max(0, now - _file_cache(folder))


def _file_cache(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        lines = [line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines()]
        return sum(int(value) for name, value in lines if name in ("inactive_file", "active_file"))
    return 0
