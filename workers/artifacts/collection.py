"""Removing what no sweep needs: artifacts that none names, blobs that no artifact has, remains of dead writers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from workers.artifacts.blobs import BLOBS, blob_name
from workers.artifacts.holds import all_holds
from workers.artifacts.leases import Leases
from workers.artifacts.record import KEY_PATTERN
from workers.artifacts.storages._protocol import PROBES, ObjectInfo
from workers.artifacts.store import ArtifactStore, record_name
from workers.artifacts.temporary import orphaned

LIVE_GRACE_S = 24 * 3600.0
"""While a sweep runs, what its writers have not named yet is younger than this."""


@dataclass(frozen=True)
class Garbage:
    name: str
    size: int
    why: str


def collect(
    store: ArtifactStore, grace_s: float, *, dry_run: bool, now: Callable[[], float] = time.time
) -> Iterator[Garbage]:
    """Remove, or with ``dry_run`` only name, what nobody needs and what is older than ``grace_s``.

    Needed is what a sweep of this store names, all it was computed from, and every blob of these. While any sweep
    runs, the grace period is at least a day.

    Raises:
        ArtifactCorrupt: a sweep's list or the file list of a needed artifact cannot be read: then nothing is removed,
            for what it needs is not known.
    """
    holds = list(all_holds(store.storage))
    if any(hold.live for hold in holds):
        grace_s = max(grace_s, LIVE_GRACE_S)
    oldest = now() - grace_s
    needed = _with_ancestors(store, {key for hold in holds for key in hold.keys})
    blobs: set[str] = set()
    for key in sorted(store.keys()):
        info = store.storage.stat(record_name(key))
        if key not in needed and info is not None and info.modified <= oldest:
            yield from _remove(store, info, "no sweep names it", dry_run)
            if not dry_run:
                store.discard(key)
            continue
        blobs |= _blobs(store, key)
    for info in store.storage.list(BLOBS):
        if info.name not in blobs and info.modified <= oldest:
            yield from _remove(store, info, "no artifact has it", dry_run)
    leases = Leases(store.storage)
    for prefix, why in (
        ("checkpoints/", "its stage is done, or no sweep names it"),
        ("claims/", "its writer died"),
        (PROBES, "its writer died"),
    ):
        for info in store.storage.list(prefix):
            key = info.name.removeprefix(prefix).removesuffix(".pt")
            wanted = prefix == "checkpoints/" and key in needed and not store.has(key)
            if not wanted and info.modified <= oldest:
                yield from _remove(store, info, why, dry_run)
    for info in store.storage.list("leases/"):
        holder = leases.holder(info.name.split("/")[1])
        if info.modified <= oldest and (holder is None or holder.known_dead()):
            yield from _remove(store, info, "its holder is dead", dry_run)
    if not dry_run:
        store.remove_orphans()
        store.trim(needed, oldest)
        store.storage.discard_unfinished(grace_s)


def tidy(store: ArtifactStore) -> None:
    """Remove what killed processes of this machine left behind stages that are done by now."""
    leases = Leases(store.storage)
    for name in {info.name.split("/")[1] for info in store.storage.list("leases/")}:
        holder = leases.holder(name)
        if holder is not None and holder.known_dead():
            leases.clear(name)
    for info in store.storage.list("checkpoints/"):
        key = info.name.removeprefix("checkpoints/").removesuffix(".pt")
        if KEY_PATTERN.fullmatch(key) and store.has(key):  # others may write to the storage too
            store.storage.delete(info.name)
    for info in store.storage.list(PROBES):
        if orphaned(info.name.removeprefix(PROBES)):
            store.storage.delete(info.name)
    store.remove_orphans()


def _with_ancestors(store: ArtifactStore, keys: set[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        try:
            waiting += store.record(key).inputs.values()
        except (ArtifactNotFound, ArtifactCorrupt):  # not computed yet, or to be computed again
            continue
    return found


def _blobs(store: ArtifactStore, key: str) -> set[str]:
    try:
        record = store.record(key)
    except ArtifactNotFound:
        return set()
    except ArtifactCorrupt:  # nobody can read what it lists; it is computed again when it is needed
        return set()
    names = {blob_name(record.index)}
    if store.storage.stat(blob_name(record.index)) is not None:
        names |= {blob_name(entry.blob) for entry in store.files(record)}
    return names


def _remove(store: ArtifactStore, info: ObjectInfo, why: str, dry_run: bool) -> Iterator[Garbage]:
    if not dry_run:
        store.storage.delete(info.name)
    yield Garbage(info.name, info.size, why)
