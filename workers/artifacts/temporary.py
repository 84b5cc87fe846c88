"""Names of what is being written: each tells which process writes it, so that a dead one's remains can go."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from workers.artifacts.processes import Process


def new_name() -> str:
    """One that nothing has."""
    return f"{Process.this().token()}.{uuid.uuid4().hex[:16]}"


def orphaned(name: str) -> bool:
    """Whether a process of this machine that no longer runs chose the name."""
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


def remove_orphans(folder: Path) -> int:
    """Remove what processes of this machine left that no longer run; returns how many."""
    count = 0
    for path in folder.glob("*"):
        if orphaned(path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            count += 1
    return count
