"""Where a sweep was recorded last, and what it is recorded in now, kept in its folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from aream.errors import DamagedFile
from orchestrator.spec.sqlite_uri import relative_database
from orchestrator.tracking.backends.protocol import Backend
from orchestrator.workspace import Workspace
from workers.processes.atomic_write import StateFile, write_json, write_text

RECORD_FILE = "record.json"
TOLD = "record"
"""File in a spool's folder: the record that it is about."""


@dataclass(frozen=True)
class RecordPlace:
    name: str
    """Of the tracking backend."""
    where: str
    """As the backend tells it, without a password; a database's file in the runs folder from there on, as both move
    together."""


def remember_record(workspace: Workspace, name: str, where: str) -> None:
    write_json(workspace.folder / RECORD_FILE, [name, relative_database(where, workspace.runs)])


def recorded_in(workspace: Workspace) -> RecordPlace | None:
    """None where that is not known: the sweep was last run by an earlier version.

    Raises:
        DamagedFile: it cannot be read.
    """

    def parse(content: bytes) -> RecordPlace:
        given = json.loads(content)
        if not isinstance(given, list) or len(given) != 2 or not all(isinstance(part, str) for part in given):
            raise ValueError("need a list of a tracking backend's name and its record")
        return RecordPlace(*given)

    go_on = "name the sweep by its YAML file; running the sweep writes it anew"
    return StateFile(workspace.folder / RECORD_FILE, "where the sweep is recorded", go_on, parse).read()


def spool_folder(workspace: Workspace, name: str, backend: Backend) -> Path:
    """The folder for what a record is told, made: one of its own, since another record has yet to be told everything.

    Args:
        name: of the tracking backend.
    """
    where = relative_database(backend.where, workspace.runs).removeprefix(f"{workspace.runs}/")
    record = json.dumps([where, backend.part])
    first = workspace.folder / "tracking" / name
    if not _is_told_there(workspace, name, backend, first, record):
        first = first.with_name(f"{name}-{hashlib.sha256(record.encode()).hexdigest()[:8]}")
    first.mkdir(parents=True, exist_ok=True)
    if not (first / TOLD).exists():
        write_text(first / TOLD, record)
    return first


def _is_told_there(workspace: Workspace, name: str, backend: Backend, folder: Path, record: str) -> bool:
    """Whether the record is the one of a folder, which earlier versions did not note."""
    if (folder / TOLD).exists():
        return (folder / TOLD).read_text(encoding="utf-8") == record
    found = None
    with contextlib.suppress(DamagedFile):
        found = recorded_in(workspace)
    last = found.where if found is not None and found.name == name else None
    return last in (None, backend.where, relative_database(backend.where, workspace.runs))
