"""Data and weights that a sweep locates in a store, fetched once a node into a folder of bounded size.

Layout: ``items/NAME`` (complete, because it was renamed into place), ``partial/NAME`` (being fetched), ``locks/NAME``.
A process that uses an item holds the shared lock of its name until it ends; one that fetches or evicts it holds the
exclusive one. So the second that wants an item waits for the first, a dead one is not waited for, and nothing that a
live process uses is evicted. What has not been used for longest goes first.

A node says in its own environment where the folder is and what it may hold, ``AREAM_STAGING_FOLDER`` (a disk of its
own; default ``~/.cache/aream``) and ``AREAM_STAGING_BYTES``; the driver hands the rest on in ``AREAM_STAGING``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aream.data.files import unreadable
from aream.errors import ConfigError, DataError, StoreUnavailable
from aream.system_errors import FULL
from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore
from workers.processes.atomic_write import place_folder, write_json
from workers.processes.file_lock import LOOK_S, FileLock
from workers.staging.sources import ARTIFACT, ContentSource, bytes_of, open_source

log = logging.getLogger(__name__)

HANDED, FOLDER, BYTES = "AREAM_STAGING", "AREAM_STAGING_FOLDER", "AREAM_STAGING_BYTES"
MAX_BYTES = 100_000_000_000
KEEP_FREE = 1 << 30
"""Bytes of the disk that are left to others."""
CONTENT, ITEM, RESERVED = "content", "item.json", "reserved.json"
SIGN = re.compile(r"[^A-Za-z0-9._-]")


def is_uri(location: str) -> bool:
    return "://" in location


def staged(uri: str) -> Path:
    """The local file or folder with the content of a URI; ``#PATH`` at its end names a place inside.

    Raises:
        ConfigError: a URI that no storage understands, or an invalid setting of this node.
        DataError: nothing is there, it is damaged, or it is not what it was when the sweep began.
        StoreUnavailable: no answer, or no room.
    """
    return _staging(*(os.environ.get(name, "") for name in (HANDED, FOLDER, BYTES))).path(uri)


def hand_on(max_bytes: int, endpoint: str | None, store: tuple[str | None, str, str | None]) -> None:
    """Settings of a sweep, for this process and those it starts.

    Args:
        endpoint: of the server that ``s3://`` means; None: boto3's own setting.
        store: URI, default folder and endpoint of the sweep's own store.
    """
    os.environ[HANDED] = json.dumps({"max_bytes": max_bytes, "endpoint": endpoint, "store": store})


def handed_on() -> dict[str, str]:
    """Environment for workers: the settings, and the versions that this process has seen of what it staged."""
    if not os.environ.get(HANDED):
        return {}
    staging = _staging(*(os.environ.get(name, "") for name in (HANDED, FOLDER, BYTES)))
    versions = {uri: item.version for uri, item in staging.used.items()}
    return {HANDED: json.dumps({**json.loads(os.environ[HANDED]), "versions": versions})}


def staging_folder() -> Path:
    """
    Raises:
        ConfigError: an invalid setting of this node.
    """
    folder = Path(os.environ.get(FOLDER) or "~/.cache/aream").expanduser()
    if not folder.is_absolute():  # each trial runs in a folder of its own
        raise ConfigError(f"{FOLDER}: need an absolute path, got {str(folder)!r}")
    return folder


def artifact_key(location: str) -> str | None:
    """The key of the artifact that a location means."""
    parts = urlsplit(location) if is_uri(location) else None
    return parts.netloc if parts and parts.scheme == ARTIFACT else None


@functools.cache
def _staging(handed: str, folder: str, limit: str) -> StagingFolder:
    given = json.loads(handed) if handed else {}
    most = given.get("max_bytes", MAX_BYTES)
    if limit:
        if not limit.isdigit() or int(limit) < 1:
            raise ConfigError(f"{BYTES}: need a number of bytes, got {limit!r}")
        most = int(limit)
    return StagingFolder(staging_folder(), most, given)


@dataclass(frozen=True)
class Item:
    version: str
    path: Path
    lock: FileLock
    """Lock held as long as this process lives."""


class StagingFolder:
    """One node's folder as one process sees it."""

    def __init__(self, folder: Path, max_bytes: int, handed: Mapping[str, Any]) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self.endpoint: str | None = handed.get("endpoint")
        self.store: tuple[str | None, str, str | None] | None = handed.get("store")
        self.versions: Mapping[str, str] = handed.get("versions", {})
        self.used: dict[str, Item] = {}
        self.one_at_a_time = threading.Lock()

    def path(self, location: str) -> Path:
        uri, _, inner = location.partition("#")
        with self.one_at_a_time:
            if uri not in self.used:
                self.used[uri] = self._begin_to_use(uri)
        item = self.used[uri]
        item.lock.used()
        path = item.path / inner
        if inner and (".." in Path(inner).parts or not path.exists()):
            found = sorted(entry.name for entry in item.path.iterdir()) if item.path.is_dir() else ["one file"]
            raise DataError(f"{uri}: holds no {inner!r}; it holds {', '.join(found[:10])}")
        return path

    def _begin_to_use(self, uri: str) -> Item:
        known = self.versions.get(uri)
        source = None if known else self._open(uri)
        version = known or (source.version if source else "")
        name = self._name(uri, version)
        lock, told = FileLock(self.folder / "locks" / name), False
        try:
            while True:
                path = self._complete(name)
                # It may have been evicted before the lock was there.
                if path is not None and lock.try_shared() and self._complete(name) is not None:
                    return Item(version, path, lock)
                if path is None and lock.try_exclusive():
                    if self._complete(name) is None:
                        self._fetch(uri, name, version, source or self._open(uri))
                    continue
                if not told:
                    log.info("%s: waiting for %s", uri, lock.holder())
                    told = True
                time.sleep(LOOK_S)
        except BaseException:
            lock.release()
            raise

    def _open(self, uri: str) -> ContentSource:
        return _in_our_words(lambda: open_source(uri, self.endpoint, self._own_store), uri)

    def _own_store(self) -> ArtifactStore:
        if self.store is None:
            raise ConfigError(f"{ARTIFACT}://: there is no sweep, so no store of its own")
        uri, default, endpoint = self.store
        return open_store(uri, Path(default), endpoint)

    def _name(self, uri: str, version: str) -> str:
        identity = json.dumps([uri, self.endpoint, self.store if artifact_key(uri) else None, version])
        stem = SIGN.sub("_", uri.rstrip("/").rpartition("/")[2])[-60:]
        return f"{stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    def _complete(self, name: str) -> Path | None:
        """The content of an item that is there, with all the bytes it had."""
        item = self.folder / "items" / name
        told = _read(item / ITEM)
        whole = "inside" in told and bytes_of(item / CONTENT) == told.get("bytes")
        return item / str(told["inside"]) if whole else None

    def _fetch(self, uri: str, name: str, version: str, source: ContentSource) -> None:
        """Fetch an item; the caller holds the exclusive lock of its name."""
        if source.version != version:
            raise DataError(f"{uri}: is not what it was when the sweep began; run the sweep again")
        partial, item = self.folder / "partial" / name, self.folder / "items" / name
        log.info("staging %s (%s) in %s", uri, in_words(source.size), item)
        try:
            _in_our_words(lambda: self._fill(uri, name, partial, source), uri)
            shutil.rmtree(item, ignore_errors=True)  # a damaged one
            item.parent.mkdir(parents=True, exist_ok=True)
            (partial / RESERVED).unlink(missing_ok=True)
            place_folder(partial, item)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _fill(self, uri: str, name: str, partial: Path, source: ContentSource) -> None:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that died
        (partial / CONTENT).mkdir(parents=True)
        content = source.fetch(partial / CONTENT, lambda size, written: self._reserve(uri, name, size, written))
        inside = str(content.relative_to(partial))
        write_json(partial / ITEM, {"uri": uri, "inside": inside, "bytes": bytes_of(partial / CONTENT)})

    def _reserve(self, uri: str, name: str, size: int, written: int) -> None:
        """Make room for ``size`` bytes, of which ``written`` are on the disk already.

        Raises:
            StoreUnavailable: what live processes use leaves none.
        """
        with FileLock(self.folder / "locks" / ".room") as room:
            room.take_exclusive(f"room for {uri}")
            for left in self._abandoned(name):
                shutil.rmtree(left, ignore_errors=True)
            others = self._sizes("items", ITEM) | self._sizes("partial", RESERVED, but=name)
            candidates = iter(self._longest_unused_first())
            while True:
                free = shutil.disk_usage(self.folder).free - KEEP_FREE
                used = sum(others.values())
                if used + size <= self.max_bytes and size - written <= free:
                    break
                victim = next(candidates, None) if size <= self.max_bytes else None
                if victim is None:
                    raise StoreUnavailable(self._no_room(uri, size, used, free))
                if self._evict(victim):
                    others.pop(("items", victim), None)
            write_json(self.folder / "partial" / name / RESERVED, {"bytes": size})

    def _no_room(self, uri: str, size: int, used: int, free: int) -> str:
        return (
            f"{uri}: no room for {in_words(size)} in {self.folder}: it may hold {in_words(self.max_bytes)}"
            f" (staging.max_bytes, or {BYTES} on this node), of which live processes use {in_words(used)}; its disk has"
            f" {in_words(max(0, free))} free beside the {in_words(KEEP_FREE)} left to others. Raise the limit, free"
            f" some space, or name a larger disk in {FOLDER}"
        )

    def _sizes(self, kind: str, file: str, but: str = "") -> dict[tuple[str, str], int]:
        found = (self.folder / kind).glob(f"*/{file}")
        return {(kind, path.parent.name): int(_read(path).get("bytes", 0)) for path in found if path.parent.name != but}

    def _abandoned(self, but: str) -> Iterator[Path]:
        """Yield the partial downloads of processes that died."""
        for path in (self.folder / "partial").glob("*"):
            if path.name != but:
                with FileLock(self.folder / "locks" / path.name) as lock:
                    if lock.try_exclusive():
                        yield path

    def _longest_unused_first(self) -> list[str]:
        def last_use(name: str) -> float:
            lock = self.folder / "locks" / name
            return lock.stat().st_mtime if lock.exists() else 0.0

        return sorted((path.name for path in (self.folder / "items").glob("*")), key=last_use)

    def _evict(self, name: str) -> bool:
        """Evict the item if nobody uses it; True if it was evicted."""
        with FileLock(self.folder / "locks" / name) as lock:
            last = os.fstat(lock.descriptor).st_mtime
            if not lock.try_exclusive():
                return False
            aside = self.folder / "partial" / name
            aside.parent.mkdir(exist_ok=True)
            (self.folder / "items" / name).rename(aside)  # at once absent for whoever looks
            shutil.rmtree(aside, ignore_errors=True)
            log.info("evicted %s, last used at %.0f", name, last)
            return True


def in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"


def _in_our_words(work: Callable[[], Any], uri: str) -> Any:
    try:
        return work()
    except OSError as error:
        if error.errno in FULL:
            raise StoreUnavailable(f"{uri}: {error.strerror} while it was staged; free some space") from error
        raise unreadable(uri, error, f"cannot be staged ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    """Empty for what is missing or damaged: an item is then fetched again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and type(content.get("bytes")) is int else {}
