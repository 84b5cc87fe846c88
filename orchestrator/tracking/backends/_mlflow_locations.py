"""Where the files of runs are, of a database that was moved or copied together with them.

MLflow keeps absolute locations, also of those that it is given relative ones.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from urllib.parse import unquote

from orchestrator.spec.sqlite_uri import sqlite_file
from orchestrator.tracking.mlflow_uri import ARTIFACTS

log = logging.getLogger(__name__)

LOCKED_S = 20.0


def location_now(uri: str, location: str) -> str:
    """A location of files beside the database ``uri``, if its experiment's folder is there; else as it is."""
    file = sqlite_file(uri)
    _, beside, own = location.rpartition(f"/{ARTIFACTS}/")
    if file is None or not beside or not location.startswith("file:"):
        return location
    folder, name = file.parent.absolute() / ARTIFACTS, unquote(own.partition("/")[0])
    there = name not in ("", ".", "..") and (folder / name).is_dir()
    return f"{folder.as_uri()}/{own}" if there else location


def follow_move(uri: str) -> None:
    """Let a database of SQLite's tell the locations of today; of another one nothing is changed."""
    file = sqlite_file(uri)
    if file is None or not file.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=LOCKED_S)) as database, database:
            found = database.execute(
                "SELECT experiment_id, coalesce(artifact_location, '') FROM experiments"
            ).fetchall()
            for experiment, before in found:
                now, length = location_now(uri, before), len(before) + 1
                if now == before:
                    continue
                database.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, experiment)
                )
                database.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
                    " WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
                    (now, length, experiment, length, f"{before}/"),
                )
    except sqlite3.Error as error:  # whoever opens it next says what is wrong with it
        log.info("%s: %s", file, error)
