"""Content-addressed blobs of a storage: packs of small files, large files, file lists."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from aream.errors import ArtifactCorrupt
from workers.artifacts import temporary
from workers.artifacts.index import FileEntry
from workers.artifacts.packing import PACK_BYTES, SMALL_BYTES, Pack, file_digest
from workers.artifacts.storages._protocol import ObjectStorage

BLOBS = "blobs/"
THREADS = 4
WAITING = 2 * THREADS
"""Transfers begun and not ended, at most: with packs of 8 MiB this bounds the memory."""
READS = 3
"""Wrong bytes may be the way's fault: only what is wrong every time is corrupt."""
PART_BYTES = 8 << 20
LONGEST_READ = PACK_BYTES + SMALL_BYTES
REFRESH_S = 12 * 3600.0
"""A blob found there and older is made young again, so that nobody collects it before its new record is written."""


class Blobs:
    def __init__(self, storage: ObjectStorage, staging: Path) -> None:
        self.storage, self.staging = storage, staging

    def upload(self, pack: Pack) -> None:
        """Store a pack, unless a blob of its name and size is there."""
        name = blob_name(pack.digest)
        found = self.storage.stat(name)
        if found is not None and found.size == pack.size:
            if time.time() - found.modified > REFRESH_S:
                self.storage.touch(name)
        elif pack.large is not None:
            self.storage.upload(name, pack.large)
        else:
            self.storage.write(name, pack.content)

    def content(self, entries: list[FileEntry], key: str) -> list[bytes]:
        """Files of one blob, in one request.

        Raises:
            ArtifactCorrupt: the blob is missing, or a file in it differs from the list.
        """
        first = entries[0].offset
        last = max(entry.offset + entry.size for entry in entries)
        blob = entries[0].blob
        if not (first <= min(entry.offset for entry in entries) and last - first <= LONGEST_READ):
            raise ArtifactCorrupt(f"{key}: its file list asks for {last - first} bytes of one pack")
        for _ in range(READS):
            try:
                content = self.storage.read(blob_name(blob), first, last - first)
            except FileNotFoundError as error:
                raise ArtifactCorrupt(f"{key}: its blob {blob} is missing in {self.storage.uri}") from error
            found = [content[e.offset - first : e.offset - first + e.size] for e in entries]
            if all(hashlib.sha256(f).hexdigest() == e.sha256 for f, e in zip(found, entries, strict=True)):
                return found
        self._drop_if_damaged(blob)
        raise ArtifactCorrupt(f"{key}: {entries[0].path} differs from its record (blob {blob})")

    def fetched(self, blob: str, key: str) -> Path:
        """A whole blob as a new file of the staging folder; raises ``ArtifactCorrupt`` as ``content`` does."""
        for _ in range(READS):
            beside = temporary.new_path(self.staging)
            try:
                self.storage.download(blob_name(blob), beside)
            except FileNotFoundError as error:
                raise ArtifactCorrupt(f"{key}: its blob {blob} is missing in {self.storage.uri}") from error
            if file_digest(beside) == blob:
                return beside
            beside.unlink()
        self._drop_if_damaged(blob)
        raise ArtifactCorrupt(f"{key}: the blob {blob} differs from its digest")

    def check(self, entries: list[FileEntry], key: str) -> None:
        """Read files of one blob for their digests only; raises ``ArtifactCorrupt`` as ``content`` does."""
        if len(entries) == 1 and entries[0].size > SMALL_BYTES:
            self.fetched(entries[0].blob, key).unlink()
        else:
            self.content(entries, key)

    def _drop_if_damaged(self, blob: str) -> None:
        """A blob whose bytes are not those of its name would be found there again by the next writer."""
        name, digest = blob_name(blob), hashlib.sha256()
        info = self.storage.stat(name)
        for start in range(0, info.size if info else 0, PART_BYTES):
            digest.update(self.storage.read(name, start, PART_BYTES))
        if digest.hexdigest() != blob:
            self.storage.delete(name)


def blob_name(digest: str) -> str:
    return f"{BLOBS}{digest[:2]}/{digest}"


def by_blob(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    """Neighbouring files that lie in one blob."""
    for _, group in itertools.groupby(entries, key=lambda entry: entry.blob):
        yield list(group)


def in_parallel(tasks: Iterator[Callable[[], None]]) -> None:
    """Run tasks as they come, few at a time; the first error is raised after those begun have ended."""
    with ThreadPoolExecutor(THREADS) as pool:
        running: set[Future[None]] = set()
        for task in tasks:
            running.add(pool.submit(task))
            if len(running) >= WAITING:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        for future in running:
            future.result()
