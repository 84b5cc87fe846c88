"""A store's records for reading many results: each is fetched once, however many results share the stage."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from orchestrator.spec.metrics import GPU_SECONDS, SECONDS
from workers.artifacts.record import ArtifactRecord
from workers.stage import Row, Stage

if TYPE_CHECKING:
    from orchestrator.spec.settings import Resource

READERS = 8
"""Records that are fetched at a time."""


class Records(Protocol):
    """The part of a store that tells what was computed, without the files."""

    def has(self, key: str) -> bool:
        """True if a complete artifact is there."""
        ...

    def record(self, key: str) -> ArtifactRecord:
        """Return the artifact's record."""
        ...


class RunRecords:
    """Records as they were when first read; what is absent is asked for again, since it may be on its way."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.known: dict[str, ArtifactRecord] = {}

    def has(self, key: str) -> bool:
        if key in self.known:
            return True
        try:
            self.known[key] = self.records.record(key)
        except (ArtifactNotFound, ArtifactCorrupt):  # whoever needs a damaged one computes it again, and says so
            return False
        return True

    def record(self, key: str) -> ArtifactRecord:
        if key not in self.known:
            self.known[key] = self.records.record(key)
        return self.known[key]

    def take(self, records: Iterable[ArtifactRecord]) -> None:
        """Records that somebody else has read."""
        self.known.update((record.key, record) for record in records)

    def present(self, keys: Collection[str]) -> set[str]:
        """Return the keys whose artifacts are there, several asked for at a time."""
        distinct = list(dict.fromkeys(keys))
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self.has, distinct))
        return {key for key, there in zip(distinct, found, strict=True) if there}


class RememberedRecords(RunRecords):
    """Records that also remember absent keys: for reading results once, not for watching a store."""

    def __init__(self, records: Records) -> None:
        super().__init__(records)
        self.absent: set[str] = set()

    def has(self, key: str) -> bool:
        if key in self.absent:
            return False
        if not super().has(key):
            self.absent.add(key)
            return False
        return True


def stage_metrics(stages: Iterable[Stage], records: Records) -> Row:
    """Return the metrics of all the stages; of two with one name the later stage's."""
    return {name: value for stage in stages for name, value in records.record(stage.key).metrics.items()}


def lineage_cost(stages: Iterable[Stage], store: Records, resource: Resource) -> Row:
    """``cost/seconds`` of the distinct stored stages and all they need, and ``cost/gpu_seconds`` at the trial's share.

    Read from the records, so a result answered from the store costs what it cost when it was computed.
    """
    distinct = {ancestor.key: ancestor for stage in stages for ancestor in stage.ancestry()}
    seconds = sum(store.record(key).seconds for key in distinct if store.has(key))
    return {SECONDS: seconds, GPU_SECONDS: seconds * resource.gpus}
