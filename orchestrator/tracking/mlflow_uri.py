"""Location of MLflow's records: its URI from a folder, made absolute, and how to look at it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from aream.errors import ConfigError
from orchestrator.console.permissions import permission_advice
from orchestrator.spec.sqlite_uri import absolute_database, sqlite_file, sqlite_uri
from orchestrator.tracking.check import refuse_unwritable
from workers.processes.masking import masked

VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http://", "https://", "databricks")
ARTIFACTS = "mlflow-artifacts"
"""Folder of the files of runs, beside their database."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")


def default_uri(runs: Path) -> str:
    """A database in the runs folder, whatever signs its name has."""
    return sqlite_uri(runs / "mlflow.db")


def record_uri(given: str | None, runs: Path, folder: Path) -> str:
    """Return the URI of a sweep's record, absolute: from its file, the environment, or a database in the runs folder.

    Args:
        given: ``tracking.uri`` of the file.
        folder: where relative files start.

    Raises:
        ConfigError: nothing that MLflow could write to.
    """
    if given is None and os.environ.get(VARIABLE):
        return resolved_uri(os.environ[VARIABLE], folder, VARIABLE)
    return resolved_uri(given or default_uri(runs), folder)


def resolved_uri(uri: str, folder: Path, key: str = "tracking.uri") -> str:
    """A URI whose file, if it means one, is absolute; other URIs as they are.

    Args:
        folder: where relative files start.
        key: of the setting, for the message.

    Raises:
        ConfigError: not a URI that MLflow knows, or a database in memory.
    """
    if uri.startswith(SERVERS):
        _check_server(uri, key)
        return uri
    if "://" not in uri or uri.startswith("file:"):
        raise ConfigError(
            f"{key}: given {uri!r}, a folder of files, which MLflow supports no more: need sqlite:///FILE, another"
            " database or http(s)://HOST; `mlflow migrate-filestore` moves what such a folder holds"
        )
    return absolute_database(uri, folder, key)


def _check_server(uri: str, key: str) -> None:
    """Raises ``ConfigError`` where no request could be made of it: MLflow puts its paths behind the URI as it is."""
    if not uri.startswith("http"):
        return
    try:
        parts = urlsplit(uri)
        usable = parts.hostname and parts.port != 0 and not (parts.query or parts.fragment or uri.endswith(("?", "#")))
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"{key}: given {masked(uri)!r}; need http(s)://HOST[:PORT][/PATH] without parameters: a token goes into"
            " MLFLOW_TRACKING_TOKEN"
        )


def refuse_relative_file(uri: str) -> None:
    """Raises ``ConfigError`` for a database whose file is another one wherever a job runs."""
    file = sqlite_file(uri)
    if file is not None and not file.is_absolute():
        raise ConfigError(
            f"tracking.uri: given {uri!r}; on the cluster that is a file of another folder: need an absolute one,"
            " sqlite:////FOLDER/FILE, or a server"
        )


def refuse_unusable_file(file: Path) -> None:
    """Check that a database can be written there, or made; makes its folder.

    Raises:
        ConfigError: it cannot.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"tracking.uri: {file.parent} cannot be made ({error.strerror})") from error
    for place in (file, file.parent) if file.exists() else (file.parent,):
        if not os.access(place, os.W_OK):
            raise ConfigError(f"tracking.uri: {file} cannot be written; {permission_advice(place)}")
    if file.is_dir():
        raise ConfigError(f"tracking.uri: {file} is a folder: need the file of a database")
    refuse_unwritable(file.parent, "tracking.uri")  # SQLite makes files beside its own


def artifact_location(uri: str, experiment: str) -> str | None:
    """URI for the files of a new experiment: beside its database, as both move together; None: the server decides."""
    file = sqlite_file(uri)
    if file is None:
        return None
    own = experiment
    if not PLAIN_NAME.fullmatch(experiment):  # it might leave the folder
        own = (
            f"{re.sub(r'[^A-Za-z0-9_-]+', '_', experiment)[:60]}-{hashlib.sha256(experiment.encode()).hexdigest()[:8]}"
        )
    return (file.parent.absolute() / ARTIFACTS / own).as_uri()


def mlflow_ui(uri: str) -> str:
    """MLflow's own command for a database, to paste into a shell."""
    words = [str(Path(sys.executable).parent / "mlflow"), "ui", "--backend-store-uri", masked(uri)]
    return shlex.join(words)
