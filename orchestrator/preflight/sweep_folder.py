"""The folder of a sweep: its identity, and who holds it."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from aream.errors import AreamError
from orchestrator.workspace import Workspace
from workers.processes.atomic_write import StateFile, write_text
from workers.processes.file_lock import FileLock

SWEEP_ID = re.compile(rb"[0-9a-f]{32}")


def sweep_id(workspace: Workspace) -> str:
    """A name for this folder's sweep in the tracker, made once: resuming finds the same runs.

    Raises:
        DamagedFile: it cannot be told, and another one would begin all recorded runs anew.
    """

    def parse(content: bytes) -> str:
        if not SWEEP_ID.fullmatch(content):
            raise ValueError("need 32 hex digits")
        return content.decode()

    file = StateFile(
        id_file(workspace),
        "the id of this sweep in its record and the store",
        "write into it the tag `aream.sweep` of the sweep's MLflow run, or delete it: its runs then begin anew,"
        " and results are kept",
        parse,
    )
    found = file.read()
    if found is None:
        found = uuid.uuid4().hex
        write_text(file.path, found)
    return found


def id_file(workspace: Workspace) -> Path:
    return workspace.folder / "sweep_id"


@contextlib.contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """Lock the sweep's folder, in which only one driver at a time runs.

    Raises:
        AreamError: another process holds it; the message names it.
        ConfigError: its file system keeps no locks.
    """
    with FileLock(workspace.folder / "lock") as lock:
        if not lock.try_exclusive():
            raise AreamError(
                f"{workspace.folder}: another process runs this sweep ({lock.holder()}); wait for it, or stop it"
            )
        yield
