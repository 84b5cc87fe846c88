"""Content-addressed blobs of a storage: packs of small files, large files, file lists."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from aream.errors import ArtifactCorrupt, StoreUnavailable
from workers.artifacts.index import FileEntry, parse
from workers.artifacts.packing import PACK_BYTES, SMALL_BYTES, Pack, file_digest
from workers.artifacts.storages.protocol import ObjectStorage
from workers.processes import temporary

BLOBS = "blobs/"
THREADS = 4
WAITING = 2 * THREADS
"""Transfers begun and not ended, at most: with packs of 8 MiB this bounds the memory."""
READS = 3
"""Wrong bytes may be the way's fault: only what is wrong every time is corrupt."""
PART_BYTES = 8 << 20
LONGEST_READ = PACK_BYTES + SMALL_BYTES


class Blobs:
    def __init__(self, storage: ObjectStorage, staging: Path) -> None:
        self.storage, self.staging = storage, staging

    def upload(self, pack: Pack) -> None:
        """Store a pack, unless a blob of its name and size is there."""
        name = blob_name(pack.digest)
        if self._found(name, pack.size):
            return
        if pack.large is not None:
            self.storage.upload(name, pack.large)
        else:
            self.storage.write(name, pack.content)

    def _found(self, name: str, size: int) -> bool:
        """True if the blob is there; it is touched, so that nobody collects it before its new record is written."""
        found = self.storage.stat(name)
        if found is None or found.size != size:
            return False
        try:
            self.storage.touch(name)
        except FileNotFoundError:  # it was being collected
            return False
        return True

    def listed(self, index: str, key: str) -> set[str]:
        """Names of the blobs of an artifact, with that of its file list; nothing is changed, whatever is found.

        Raises:
            ArtifactCorrupt: the list is missing or damaged.
        """
        name = blob_name(index)
        for _ in range(READS):
            try:
                content = self.storage.read(name)
            except FileNotFoundError as error:
                raise ArtifactCorrupt(f"{key}: its file list {index} is missing in {self.storage.uri}") from error
            if hashlib.sha256(content).hexdigest() == index:
                return {name, *(blob_name(entry.blob) for entry in parse(content.splitlines(), key))}
        raise ArtifactCorrupt(f"{key}: its file list {index} differs from its digest")

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
        """Read files of one blob for their digests only, in no folder; raises ``ArtifactCorrupt`` as ``content``
        does."""
        if len(entries) > 1 or entries[0].size <= SMALL_BYTES:
            self.content(entries, key)
            return
        blob = entries[0].blob
        for _ in range(READS):
            found = self._digest(blob)
            if found == blob:
                return
            if found is None:
                raise ArtifactCorrupt(f"{key}: its blob {blob} is missing in {self.storage.uri}")
        self._drop_if_damaged(blob)
        raise ArtifactCorrupt(f"{key}: the blob {blob} differs from its digest")

    def _digest(self, blob: str) -> str | None:
        """Of the bytes that are there under this name; None: nothing is."""
        name, digest = blob_name(blob), hashlib.sha256()
        info = self.storage.stat(name)
        if info is None:
            return None
        try:
            for start in range(0, info.size, PART_BYTES):
                digest.update(self.storage.read(name, start, PART_BYTES))
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def _drop_if_damaged(self, blob: str) -> None:
        """A blob whose bytes are not those of its name would be found there again by the next writer."""
        if self._digest(blob) not in (blob, None):
            with contextlib.suppress(StoreUnavailable):  # whoever may only read cannot mend it
                self.storage.delete(blob_name(blob))


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
