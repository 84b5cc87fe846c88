"""A store's records for reading many results: each is fetched once, however many results share the stage."""

from __future__ import annotations

from typing import Protocol

from workers.artifacts.record import ArtifactRecord


class Records(Protocol):
    """The part of a store that tells what was computed, without the files."""

    def has(self, key: str) -> bool:
        """Whether a complete artifact is there."""
        ...

    def record(self, key: str) -> ArtifactRecord:
        """What is known of it."""
        ...


class RememberedRecords:
    """Records as they were when first asked for: for one look at results, not for watching a store."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._known: dict[str, ArtifactRecord] = {}
        self._absent: set[str] = set()

    def has(self, key: str) -> bool:
        if key not in self._known and key not in self._absent and not self.records.has(key):
            self._absent.add(key)
        return key not in self._absent

    def record(self, key: str) -> ArtifactRecord:
        if key not in self._known:
            self._known[key] = self.records.record(key)
        return self._known[key]
