"""Databases named by URIs, with the files of SQLite's made absolute."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy.exc
from sqlalchemy.engine import URL, make_url

from aream.errors import ConfigError
from orchestrator.spec.names import absolute


def sqlite_uri(file: Path) -> str:
    """Return the SQLAlchemy URI of an SQLite file; special characters of its name are escaped."""
    return _rendered(URL.create("sqlite", database=str(file)))


def absolute_database(uri: str, folder: Path, key: str) -> str:
    """A database's URI whose file, if it means one, is absolute; other URIs as they are.

    Args:
        folder: where relative files start.
        key: of the setting, for the message.

    Raises:
        ConfigError: not a URI of a database, or one of a database in memory, or at a place that cannot be one.
    """
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
    return _rendered(url.set(database=str(absolute(url.database, key, folder))))


def relative_database(uri: str, folder: Path) -> str:
    """The URI with its file from ``folder`` on, where that holds it; other URIs as they are."""
    file = sqlite_file(uri)
    if file is None or not file.is_relative_to(folder):
        return uri
    return _rendered(make_url(uri).set(database=str(file.relative_to(folder))))


def sqlite_file(uri: str) -> Path | None:
    """The file of a database of SQLite's; None: the URI means something else."""
    if not uri.startswith("sqlite"):
        return None
    database = make_url(uri).database or ""
    return None if database.startswith("file:") else Path(database)


def _rendered(url: URL) -> str:
    return url.render_as_string(hide_password=False)
