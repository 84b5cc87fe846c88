"""Where MLflow's records lie: its URI from a folder, made absolute, and how to look at it."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from aream.errors import ConfigError
from workers.processes.masking import masked

SERVERS = ("http://", "https://", "databricks")
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")


def default_uri(runs: Path) -> str:
    """A database in the runs folder, whatever signs its name has."""
    return _rendered(URL.create("sqlite", database=str(runs / "mlflow.db")))


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
    try:
        url = make_url(uri)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise ConfigError(
            f"{key}: not the URI of a database or server: need sqlite:///FILE or http(s)://..."
        ) from error
    if url.get_backend_name() != "sqlite":
        return uri
    if not url.database or url.database == ":memory:":
        raise ConfigError(
            f"{key}: given {uri!r}, a database in memory, which nobody could look at: need sqlite:///FILE"
        )
    if url.database.startswith("file:"):
        return uri
    try:
        file = folder / Path(url.database).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key}: given {uri!r}; there is no such user's home folder") from error
    return _rendered(url.set(database=str(file)))


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


def sqlite_file(uri: str) -> Path | None:
    """The file of a database of SQLite's; None: the URI means something else."""
    if not uri.startswith("sqlite"):
        return None
    database = make_url(uri).database or ""
    return None if database.startswith("file:") else Path(database)


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where the files of a new experiment go: beside its database, as both move together; None: the server says."""
    file = sqlite_file(uri)
    if file is None:
        return None
    own = experiment
    if not PLAIN_NAME.fullmatch(experiment):  # it might leave the folder
        own = (
            f"{re.sub(r'[^A-Za-z0-9_-]+', '_', experiment)[:60]}-{hashlib.sha256(experiment.encode()).hexdigest()[:8]}"
        )
    return (file.parent.absolute() / "mlflow-artifacts" / own).as_uri()


def browse(uri: str) -> str:
    """What a person opens, or pastes into a shell."""
    if uri.startswith(SERVERS):
        return masked(uri)
    words = [str(Path(sys.executable).parent / "mlflow"), "ui", "--backend-store-uri", masked(uri)]
    return shlex.join(words)


def _rendered(url: URL) -> str:
    return url.render_as_string(hide_password=False)
