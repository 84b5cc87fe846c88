"""Where a sweep was recorded last, kept in its folder for commands that know only its name."""

from __future__ import annotations

import json
from dataclasses import dataclass

from orchestrator.spec.sqlite_uri import relative_database
from orchestrator.workspace import Workspace
from workers.processes.atomic_write import StateFile, write_json

RECORD_FILE = "record.json"


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
