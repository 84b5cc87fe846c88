"""Protocol of storages: named objects, each there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    name: str
    """Name with forward slashes, relative to the storage."""
    size: int
    modified: float
    """Seconds since the epoch, by the storage's clock."""


PROBES = "probe/"
"""Prefix of the objects that checks write and delete."""


class ObjectStorage(Protocol):
    """All calls raise ``StoreUnavailable`` where the storage does not answer, cannot be written or is full.

    What cannot be looked at is never said to be absent: whoever removes things trusts ``list`` and ``stat``.
    """

    uri: str
    """URI without credentials."""

    def check(self) -> None:
        """Write, read and delete a probe object.

        Raises:
            ConfigError: the storage refuses: no such bucket, no permission.
            StoreUnavailable: it does not answer.
        """

    def with_patience(self, seconds: float) -> ObjectStorage:
        """The same storage, whose calls give up after so long without an answer."""

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of an object; raises ``FileNotFoundError``."""

    def write(self, name: str, content: bytes) -> None:
        """Replace an object."""

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that is not there; False, changing nothing, where another writer was first."""

    def upload(self, name: str, path: Path) -> None:
        """Store a file; the file may be linked, so nobody writes to it afterwards."""

    def download(self, name: str, path: Path) -> None:
        """Write an object to a new file; raises ``FileNotFoundError``."""

    def stat(self, name: str) -> ObjectInfo | None: ...

    def touch(self, name: str) -> None:
        """Make an object as young as a new one, for whoever collects old ones; raises ``FileNotFoundError``."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose name starts with ``prefix``: all of them, or an error."""

    def delete(self, name: str) -> None:
        """An object that is not there is no error."""

    def delete_unchanged(self, info: ObjectInfo) -> bool:
        """Delete an object that nobody wrote or touched since it was listed; False, where somebody did."""

    def discard_unfinished(self, older_than: float) -> int:
        """Drop uploads of blobs that were never completed and are older than so many seconds; returns how many."""
