"""Removing what no sweep needs: artifacts that none names, blobs that no artifact has, remains of dead writers.

What is removed was listed first, then found to be needed by nobody, and did not change in between: who begins to rely
on something old makes it young (``holds.keep_from_collectors``, ``Blobs.upload``). Whatever cannot be listed or read
ends the collection: absence is never concluded from an error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from workers.artifacts import collectors
from workers.artifacts.blobs import BLOBS
from workers.artifacts.collectors import COLLECTORS, Collector
from workers.artifacts.holds import HOLDS, all_holds
from workers.artifacts.leases import LEASES, Leases
from workers.artifacts.record import KEY_PATTERN, RECORDS, read_record, record_name, with_ancestors
from workers.artifacts.storages.protocol import PROBES, ObjectInfo, ObjectStorage
from workers.artifacts.store import ArtifactStore
from workers.processes.temporary import orphaned

LIVE_GRACE_S = 24 * 3600.0
"""Seconds: while a sweep or a stage runs, what its writers have not named yet is younger than this."""
CHECKPOINTS = "checkpoints/"


@dataclass(frozen=True)
class Garbage:
    name: str
    size: int
    why: str


def collect(
    store: ArtifactStore, grace_s: float, *, dry_run: bool, now: Callable[[], float] = time.time
) -> Iterator[Garbage]:
    """Remove, or with ``dry_run`` only name, what nobody needs and what is older than ``grace_s``.

    Needed is what a sweep of this store names, all it was computed from, and every blob of these. While any sweep or
    stage runs, the grace period is at least a day. A dry run changes nothing.

    Raises:
        ArtifactCorrupt: a sweep's list, or the record or file list of an artifact that stays, cannot be read: then
            nothing is removed, for what it needs is not known.
        StoreUnavailable: something cannot be listed.
    """
    if dry_run:
        look = _Look(store, grace_s, now)
        yield from [Garbage(info.name, info.size, why) for info, why in look.garbage()]
        return
    with Collector(store.storage):
        look = _Look(store, grace_s, now)
        list(look.garbage())  # what cannot be read is met before anything is removed
        for info, why in look.garbage():
            if look.still_unneeded(info) and store.storage.delete_unchanged(info):
                look.removed(info)
                yield Garbage(info.name, info.size, why)
        store.remove_orphans(lambda: _living_processes(store.storage))
        store.trim(look.needed, look.oldest)
        store.storage.discard_unfinished(max(grace_s, LIVE_GRACE_S))


class _Look:
    """A listing of a store's objects and of who needs them, taken first: a later need of one shows as a change."""

    def __init__(self, store: ArtifactStore, grace_s: float, now: Callable[[], float]) -> None:
        self.store, self.storage, asked = store, store.storage, now()
        self.listed = {
            prefix: list(self.storage.list(prefix))
            for prefix in (RECORDS, BLOBS, CHECKPOINTS, "claims/", PROBES, LEASES)
        }
        self.views = store.views.by_key()
        self.living = _living(self.storage, self.listed[LEASES])
        others = any(not f"{LEASES}{name}".startswith(COLLECTORS) for name in self.living)
        self.oldest = asked - (max(grace_s, LIVE_GRACE_S) if others else grace_s)
        self.blobs: dict[ObjectInfo, set[str]] = {}
        """Record -> names of the blobs of its artifact."""
        self._read_holds()

    def garbage(self) -> Iterator[tuple[ObjectInfo, str]]:
        """Artifacts before their blobs, which are looked at when the artifacts are gone."""
        for info in self.listed[RECORDS]:
            if self._is_doomed(info):
                yield info, "no sweep names it"
        has = self._blobs_that_stay()
        for info in self.listed[BLOBS]:
            if info.name not in has and info.modified <= self.oldest:
                yield info, "no artifact has it"
        for prefix, why, wanted in (
            (CHECKPOINTS, "its stage is done, or no sweep names it", self._is_wanted_checkpoint),
            ("claims/", "its writer died", lambda info: False),
            (PROBES, "its writer died", lambda info: False),
            (LEASES, "its holder is dead", lambda info: info.name.split("/")[1] in self.living),
        ):
            for info in self.listed[prefix]:
                if info.modified <= self.oldest and not wanted(info):
                    yield info, why

    def still_unneeded(self, info: ObjectInfo) -> bool:
        """True if no sweep has come to need it since."""
        if not info.name.startswith((RECORDS, CHECKPOINTS)):
            return True
        if sorted(self.storage.list(HOLDS), key=lambda hold: hold.name) != self.holds:
            self._read_holds()
        return self._is_doomed(info) if info.name.startswith(RECORDS) else not self._is_wanted_checkpoint(info)

    def removed(self, info: ObjectInfo) -> None:
        if info.name.startswith(RECORDS):
            for view in self.views.get(str(key_of(info.name)), ()):
                self.store.views.remove(view)

    def _read_holds(self) -> None:
        self.holds = sorted(self.storage.list(HOLDS), key=lambda hold: hold.name)
        named = {key for hold in all_holds(self.storage) for key in hold.keys}
        with _saying_how_to_go_on():
            self.needed = with_ancestors(self.storage, named, strict=True)

    def _is_doomed(self, info: ObjectInfo) -> bool:
        key = key_of(info.name)
        return key is not None and key not in self.needed and info.modified <= self.oldest

    def _is_wanted_checkpoint(self, info: ObjectInfo) -> bool:
        key = key_of(info.name)
        return key is not None and (key in self.living or (key in self.needed and not is_done(self.storage, info)))

    def _blobs_that_stay(self) -> set[str]:
        """Names of the blobs of all artifacts that are kept; those already removed are no longer listed."""
        listed, names = set(self.listed[RECORDS]), set[str]()
        for info in self.storage.list(RECORDS):
            key = key_of(info.name)
            if key is None or (info in listed and self._is_doomed(info)):
                continue
            if info not in self.blobs:
                with contextlib.suppress(ArtifactNotFound), _saying_how_to_go_on():  # discarded since
                    self.blobs[info] = self.store.blobs.listed(read_record(self.storage, key).index, key)
            names |= self.blobs.get(info, set())
        return names


def tidy(store: ArtifactStore) -> None:
    """Remove what killed processes left behind stages that are done by now, and remains of earlier boots."""
    leases = Leases(store.storage)
    for name in _lease_names(store.storage.list(LEASES)):
        holder = leases.holder(name)
        if holder is not None and holder.known_dead():
            leases.clear(name)
    for info in store.storage.list(COLLECTORS):
        if orphaned(info.name.removeprefix(COLLECTORS)):
            store.storage.delete(info.name)
    for info in store.storage.list(CHECKPOINTS):
        if key_of(info.name) is not None and is_done(store.storage, info):
            store.storage.delete_unchanged(info)
    for info in store.storage.list(PROBES):
        if orphaned(info.name.removeprefix(PROBES)):
            store.storage.delete(info.name)
    store.remove_orphans(lambda: _living_processes(store.storage))


def is_done(storage: ObjectStorage, checkpoint: ObjectInfo) -> bool:
    """True if the checkpoint's artifact was stored since; an older artifact is being computed again."""
    record = storage.stat(record_name(str(key_of(checkpoint.name))))
    return record is not None and record.modified >= checkpoint.modified


def living_leases(storage: ObjectStorage) -> set[str]:
    """Names of the leases whose holders may still run."""
    return set(_living(storage, list(storage.list(LEASES))))


def _living_processes(storage: ObjectStorage) -> set[str]:
    return set(_living(storage, list(storage.list(LEASES))).values())


def _living(storage: ObjectStorage, infos: Sequence[ObjectInfo]) -> dict[str, str]:
    """Names of the leases and collectors among the objects below ``leases/`` -> processes that may still run."""
    leases, found = Leases(storage), dict(collectors.living(infos))
    for name in _lease_names(infos) - found.keys():
        holder = leases.alive(name)
        if holder is not None:
            found[name] = holder.process
    return found


def _lease_names(infos: Iterable[ObjectInfo]) -> set[str]:
    return {info.name.split("/")[1] for info in infos}


def key_of(name: str) -> str | None:
    """The key of a record or a checkpoint; others may write to the storage too."""
    key = name.partition("/")[2].removesuffix(".json").removesuffix(".pt")
    return key if KEY_PATTERN.fullmatch(key) else None


@contextlib.contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    try:
        yield
    except ArtifactCorrupt as error:
        raise ArtifactCorrupt(
            f"{error}; nothing more is removed, for what it needs is not known:"
            " `python -m orchestrator.artifacts verify --discard` forgets what is damaged"
        ) from error
