"""Artifacts by key: a folder of files and a record, complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from aream.errors import ConfigError
from workers.artifacts.local import LocalStore
from workers.artifacts.record import ArtifactRecord


class ArtifactStore(Protocol):
    def has(self, key: str) -> bool:
        """Whether a complete artifact is there: its record is written last."""

    def record(self, key: str) -> ArtifactRecord:
        """Raises ``ArtifactNotFound``, or ``ArtifactCorrupt`` where the record cannot be read."""

    def get(self, key: str) -> Path:
        """A folder to read the files from, their digests checked the first time a process asks.

        Raises:
            ArtifactNotFound: no complete artifact has this key.
            ArtifactCorrupt: a file is missing or differs from the record.
        """

    def staging(self) -> Path:
        """An empty folder to write an artifact into; publishing from it moves, not copies."""

    def put(self, key: str, source: Path, record: ArtifactRecord) -> ArtifactRecord:
        """Publish ``source``; returns the record with its files listed.

        A second writer of a key changes nothing and gets the record that is there.
        """

    def keys(self) -> Iterator[str]: ...

    def discard(self, key: str) -> None:
        """Forget an artifact, its record first; a key that is not there is no error."""


def open_store(uri: str | None, default: Path) -> ArtifactStore:
    """The store at a path or ``file://`` URI; None: ``default``.

    Raises:
        ConfigError: another kind of URI.
    """
    if uri is None:
        return LocalStore(default)
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme:
        raise ConfigError(f"store.uri: given {uri!r}; allowed are a folder or file:///folder")
    return LocalStore(Path(uri).expanduser().absolute())
