"""Which artifacts a sweep needs: what it names is not collected, and while it runs it says so with a lease."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from aream.errors import AreamError, ArtifactCorrupt
from workers.artifacts.leases import Leases
from workers.artifacts.storages._protocol import ObjectStorage

log = logging.getLogger(__name__)

SAVE_S = 5.0


class Hold:
    """One sweep's list of keys; a context while the sweep runs."""

    def __init__(self, storage: ObjectStorage, sweep_id: str, name: str) -> None:
        self.storage, self.sweep_id, self.name = storage, sweep_id, name
        self.leases = Leases(storage)
        self.keys: set[str] = set()
        self.saved_keys, self.saved = 0, 0.0

    def __enter__(self) -> Hold:
        known = held_keys(self.storage, self.sweep_id)
        self.keys |= known
        self.saved_keys = len(self.keys) if known else -1
        self.save()
        self.lease = self.leases.take(_lease(self.sweep_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.save()
        except AreamError as problem:
            log.warning("%s", problem)
        if self.lease is not None:
            self.lease.release()

    def add(self, keys: Iterable[str]) -> None:
        """Name more artifacts, before they are relied on; written at most every few seconds."""
        self.keys |= set(keys)
        if time.monotonic() - self.saved >= SAVE_S:
            self.save()

    def save(self) -> None:
        if len(self.keys) != self.saved_keys:
            content = {"name": self.name, "keys": sorted(self.keys)}
            self.storage.write(_object(self.sweep_id), json.dumps(content).encode())
            self.saved_keys, self.saved = len(self.keys), time.monotonic()


@dataclass(frozen=True)
class HeldKeys:
    sweep_id: str
    name: str
    keys: tuple[str, ...]
    live: bool
    """Whether its driver may still run: its lease is there, and not seen to be dead from here."""


def read_hold(storage: ObjectStorage, sweep_id: str) -> HeldKeys:
    """Raises ``ArtifactCorrupt`` where the list cannot be read."""
    try:
        content = json.loads(storage.read(_object(sweep_id)))
        name, keys = str(content["name"]), tuple(str(key) for key in content["keys"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArtifactCorrupt(f"{storage.uri}/{_object(sweep_id)}: is no list of keys: {error}") from error
    holder = Leases(storage).holder(_lease(sweep_id))
    return HeldKeys(sweep_id, name, keys, holder is not None and not holder.known_dead())


def held_keys(storage: ObjectStorage, sweep_id: str) -> set[str]:
    """None where the sweep holds nothing; raises ``ArtifactCorrupt`` where the list cannot be read."""
    if storage.stat(_object(sweep_id)) is None:
        return set()
    return set(read_hold(storage, sweep_id).keys)


def all_holds(storage: ObjectStorage) -> Iterator[HeldKeys]:
    for info in storage.list("sweeps/"):
        yield read_hold(storage, info.name.removeprefix("sweeps/").removesuffix(".json"))


def release(storage: ObjectStorage, sweep_id: str) -> None:
    """What only this sweep needs may be collected."""
    storage.delete(_object(sweep_id))


def _object(sweep_id: str) -> str:
    return f"sweeps/{sweep_id}.json"


def _lease(sweep_id: str) -> str:
    return f"sweep-{sweep_id}"
