"""The artifacts that a sweep needs, which are not collected, and the lease that shows it running."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aream.errors import AreamError, ArtifactCorrupt
from workers.artifacts.collectors import COLLECTORS
from workers.artifacts.leases import Lease, Leases
from workers.artifacts.record import record_name, with_ancestors
from workers.artifacts.storages.protocol import ObjectStorage

log = logging.getLogger(__name__)

HOLDS, SUFFIX = "sweeps/", ".json"
SAVE_S = 5.0


class Hold:
    """One sweep's list of keys; a context while the sweep runs."""

    def __init__(
        self,
        storage: ObjectStorage,
        sweep_id: str,
        name: str,
        keys: Iterable[str] = (),
        replaces: Iterable[str] = (),
    ) -> None:
        """``keys`` are named from the start; ``replaces``: ids whose holds end once this one is there."""
        self.storage, self.sweep_id, self.name, self.replaces = storage, sweep_id, name, tuple(replaces)
        self.leases = Leases(storage)
        self.lease: Lease | None = None
        self.keys = set(keys)
        self.earlier: set[str] = set()
        """Keys that earlier runs named; kept until this run has named all it needs."""
        self.written: set[str] | None = None
        self.saved = 0.0
        self.one_at_a_time = threading.RLock()

    def __enter__(self) -> Hold:
        self.earlier = held_keys(self.storage, self.sweep_id)
        # The sweep's folder has one driver only: who held this before is gone, wherever it ran.
        self.lease = self.leases.seize(_lease(self.sweep_id), self._save_what_waits)
        self.save()
        for replaced in self.replaces:
            if replaced != self.sweep_id:
                release(self.storage, replaced)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.save()
        except AreamError as problem:
            log.warning("%s", problem)
        if self.lease is not None:
            self.lease.release()

    def add(self, keys: Iterable[str]) -> None:
        """Name more artifacts, before they are relied on; written at most every few seconds."""
        with self.one_at_a_time:
            self.keys |= set(keys)
            if time.monotonic() - self.saved >= SAVE_S:
                self.save()

    def complete(self) -> None:
        """All that the sweep needs is named: what only earlier versions of it named may be collected."""
        with self.one_at_a_time:
            if self.lease is None or not self.lease.lost.is_set():
                self.earlier = set()
            self.save()

    def save(self) -> None:
        with self.one_at_a_time:
            if self.lease is not None and self.lease.lost.is_set():  # another driver of the sweep writes here too
                self.earlier |= held_keys(self.storage, self.sweep_id)
            named = self.keys | self.earlier
            if named == self.written:
                return
            content = {"name": self.name, "keys": sorted(named)}
            self.storage.write(_object(self.sweep_id), json.dumps(content).encode())
            new = named - (self.written or set())
            self.written, self.saved = named, time.monotonic()
        keep_from_collectors(self.storage, new)

    def _save_what_waits(self) -> None:
        if self.written is not None:
            try:
                self.save()
            except AreamError as error:  # the lease beats on
                log.warning("%s", error)


def keep_from_collectors(storage: ObjectStorage, keys: Iterable[str]) -> None:
    """Make what has just been named young, for a collector that read the sweeps' lists before.

    A collector says that it works, then lists, then reads what is named, and removes only what did not change after
    it was listed. Whoever names something looks afterwards whether a collector works: so one of them sees the other.
    """
    if not any(True for _ in storage.list(COLLECTORS)):
        return
    for key in with_ancestors(storage, keys, strict=False):
        for name in (record_name(key), f"checkpoints/{key}.pt"):
            with contextlib.suppress(FileNotFoundError):
                storage.touch(name)


@dataclass(frozen=True)
class HeldKeys:
    sweep_id: str
    name: str
    keys: tuple[str, ...]
    live: bool
    """True if its driver may still run: its lease was renewed lately, and it is not known from here to be dead."""


def read_hold(storage: ObjectStorage, sweep_id: str) -> HeldKeys:
    """Raises ``ArtifactCorrupt`` where the list cannot be read, ``FileNotFoundError`` where there is none."""
    try:
        content = json.loads(storage.read(_object(sweep_id)))
        name, keys = str(content["name"]), tuple(str(key) for key in content["keys"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArtifactCorrupt(f"{storage.uri}/{_object(sweep_id)}: is not a list of keys: {error}") from error
    return HeldKeys(sweep_id, name, keys, Leases(storage).alive(_lease(sweep_id)) is not None)


def held_keys(storage: ObjectStorage, sweep_id: str) -> set[str]:
    """Return the keys that a sweep holds, none where it has no list; raises ``ArtifactCorrupt`` where the list cannot
    be read."""
    try:
        return set(read_hold(storage, sweep_id).keys)
    except FileNotFoundError:
        return set()


def all_holds(storage: ObjectStorage) -> Iterator[HeldKeys]:
    for info in storage.list(HOLDS):
        if info.name.endswith(SUFFIX):
            with contextlib.suppress(FileNotFoundError):  # released since it was listed
                yield read_hold(storage, info.name.removeprefix(HOLDS).removesuffix(SUFFIX))


def release(storage: ObjectStorage, sweep_id: str) -> None:
    """Let artifacts be collected that only this sweep needs."""
    storage.delete(_object(sweep_id))


def _object(sweep_id: str) -> str:
    return f"{HOLDS}{sweep_id}{SUFFIX}"


def _lease(sweep_id: str) -> str:
    return f"sweep-{sweep_id}"
