"""Names of what is being written: each tells which process writes it, so that a dead one's remains can go."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from workers.processes.identity import Process

STRANGER_S = 24 * 3600.0
"""Seconds without a change after which a file that no known process writes counts as left by an earlier boot or
another machine."""


def new_name() -> str:
    """Return a name that nothing has."""
    return f"{Process.this().token()}.{uuid.uuid4().hex[:16]}"


def orphaned(name: str) -> bool:
    """True if a process of this machine that no longer runs chose the name."""
    writer = Process.parse(name.partition(".")[0])
    return writer is not None and writer.known_dead()


def new_path(folder: Path) -> Path:
    """A path in ``folder`` (made if need be) that nothing has."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / new_name()


def new_folder(folder: Path) -> Path:
    path = new_path(folder)
    path.mkdir()
    return path


def remove_orphans(folder: Path, living: Callable[[], set[str]] | None = None) -> int:
    """Remove what processes of this machine left that no longer run; returns how many.

    Args:
        living: tokens of processes anywhere that are known to live. Where it is given, old remains of all others go
            too: a writer that is not among them works no longer than a day at one file.
    """
    known: set[str] | None = None
    count = 0
    for path in _entries(folder):
        if not orphaned(path.name):
            if living is None or _changed(path) > time.time() - STRANGER_S:
                continue
            known = living() if known is None else known
            if path.name.partition(".")[0] in known:
                continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        count += 1
    return count


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []


def _changed(path: Path) -> float:
    """Return when something in it was last written, or infinity where it goes just now."""
    try:
        newest = path.lstat().st_mtime
        return max([newest, *map(_changed, _entries(path))]) if path.is_dir() else newest
    except FileNotFoundError:
        return float("inf")
