"""Artifacts by key: a folder of files and a record, complete or absent.

Layout of the storage: ``blobs/ab/DIGEST`` (files, packs of small files, file lists; each named by its content, so
that artifacts share what they have in common), ``records/KEY.json`` (written last: it says the artifact is complete),
``checkpoints/``, ``leases/`` and ``sweeps/``. Readers get a folder of plain files, a view, in a scratch folder of
their own machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from aream.errors import ArtifactCorrupt, ArtifactNotFound, StoreUnavailable
from workers.artifacts.blobs import Blobs, by_blob, in_parallel
from workers.artifacts.index import FileEntry, parse
from workers.artifacts.packing import SMALL_BYTES, Pack, file_digest, packs
from workers.artifacts.record import KEY_PATTERN, RECORDS, ArtifactRecord, read_record, record_name
from workers.artifacts.storages.protocol import ObjectInfo, ObjectStorage
from workers.artifacts.views import Views
from workers.processes import temporary

INDEXES, STAGING = "indexes", "staging"


class ArtifactStore:
    def __init__(
        self,
        storage: ObjectStorage,
        scratch: Path,
        max_view_bytes: int | None = None,
        after: float | None = None,
        ready: Path | None = None,
    ) -> None:
        """An artifact store.

        Args:
            scratch: a local folder for views and for what is being written.
            max_view_bytes: what the views there may take; None: no bound.
            after: a record not written after this time of the storage's clock does not count: its artifact is
                computed anew, and takes its place.
            ready: a folder with views that others made, and may not be changed.
        """
        self.storage, self.scratch, self.after = storage, scratch, after
        self.blobs = Blobs(storage, scratch / STAGING)
        self.views = Views(scratch, max_view_bytes, ready)

    def has(self, key: str) -> bool:
        """True if a complete artifact is there."""
        info = self.storage.stat(record_name(key))
        return info is not None and self._counts(info)

    def record(self, key: str) -> ArtifactRecord:
        """Raises ``ArtifactNotFound``, or ``ArtifactCorrupt`` where the record cannot be read."""
        if self.after is not None and not self.has(key):
            raise ArtifactNotFound(f"no artifact {key} in {self.storage.uri} that is new")
        return read_record(self.storage, key)

    def files(self, record: ArtifactRecord) -> Iterator[FileEntry]:
        """The artifact's files, as a stream.

        Raises:
            ArtifactCorrupt: the list is missing or damaged.
        """
        cached = self.scratch / INDEXES / record.index
        if not cached.exists() or file_digest(cached) != record.index:
            cached.parent.mkdir(parents=True, exist_ok=True)
            beside = self.blobs.fetched(record.index, record.key)
            beside.replace(cached)
        with cached.open("rb") as lines:
            yield from parse(lines, record.key)

    def get(self, key: str) -> Path:
        """A folder to read the files from, their digests checked the first time a process asks.

        Raises:
            ArtifactNotFound: no complete artifact has this key.
            ArtifactCorrupt: a file is missing or differs from the record.
        """
        while True:
            record = self.record(key)
            try:
                return self.views.get(record, partial(self.files, record), partial(self._fill, record))
            except ArtifactCorrupt:
                if self.record(key) == record:  # else it was computed anew meanwhile, and its old files collected
                    raise

    def read(self, key: str, path: str) -> bytes:
        """One file of an artifact, without the others.

        Raises:
            ArtifactNotFound: no complete artifact has this key, or it has no such file.
            ArtifactCorrupt: its bytes differ from the record.
        """
        for entry in self.files(self.record(key)):
            if entry.path == path:
                return self.blobs.content([entry], key)[0]
        raise ArtifactNotFound(f"{key} has no file {path!r}")

    def staging(self) -> Path:
        """An empty folder to write an artifact into; publishing from it moves, not copies."""
        return temporary.new_folder(self.scratch / STAGING)

    def put(self, key: str, source: Path, record: ArtifactRecord) -> ArtifactRecord:
        """Publish ``source``; returns the record that is there afterwards.

        A second writer of a key changes nothing and gets the first one's record.

        Raises:
            DataError: something else than plain files and folders.
            StoreUnavailable: the storage does not take it; what was written is no artifact.
        """
        staged = source
        if source.parent != self.scratch / STAGING:
            staged = self.staging()
            shutil.copytree(source, staged, dirs_exist_ok=True, symlinks=True)
        try:
            while True:
                if not self.has(key):
                    index, files, size = self._publish(staged)
                    text = dataclasses.replace(record, index=index, files=files, size=size).to_json()
                    if self._place_record(key, text.encode()):
                        written = ArtifactRecord.from_json(text, key)
                        self.views.keep(staged, written)
                        return written
                with contextlib.suppress(ArtifactNotFound):  # discarded since
                    return read_record(self.storage, key)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def keys(self) -> Iterator[str]:
        for info in self.storage.list(RECORDS):
            key = info.name.removeprefix(RECORDS).removesuffix(".json")
            if KEY_PATTERN.fullmatch(key) and info.name == record_name(key):  # others may write to the storage too
                yield key

    def discard(self, key: str) -> None:
        """Forget an artifact; its blobs stay until they are collected. A key that is not there is no error."""
        self.storage.delete(record_name(key))
        self.views.drop(key)

    def discard_damaged(self, key: str) -> None:
        """Forget an artifact, unless what is there now is whole: another process may have computed it anew."""
        info = self.storage.stat(record_name(key))
        if info is not None:
            try:
                self.verify(key)
            except ArtifactCorrupt:
                if self.storage.delete_unchanged(info):
                    self.views.drop(key)

    def verify(self, key: str) -> None:
        """Read every byte of an artifact from the storage and check it.

        Raises:
            ArtifactNotFound: no complete artifact has this key.
            ArtifactCorrupt: something is missing or differs from the record.
        """
        record, count, size = self.record(key), 0, 0
        for entries in by_blob(self.files(record)):
            self.blobs.check(entries, key)
            count, size = count + len(entries), size + sum(entry.size for entry in entries)
        if (count, size) != (record.files, record.size):
            raise ArtifactCorrupt(
                f"{key}: lists {count} files of {size} bytes, its record {record.files} of {record.size}"
            )

    def trim(self, needed: Collection[str], oldest: float) -> None:
        """Remove this machine's views of artifacts that nobody needs, and file lists, unused since ``oldest``."""
        self.views.trim(needed, oldest)
        for cached in (self.scratch / INDEXES).glob("*"):
            if cached.stat().st_mtime <= oldest:
                cached.unlink(missing_ok=True)

    def remove_orphans(self, living: Callable[[], set[str]] | None = None) -> int:
        """Remove what writers left that no longer run: those of this machine, and with ``living``, which tells the
        processes known to live, those of other boots and machines too."""
        return temporary.remove_orphans(self.scratch / STAGING, living)

    # Writing

    def _publish(self, folder: Path) -> tuple[str, int, int]:
        """Upload all blobs; returns the digest of the file list, the number of files and their bytes."""
        files = size = 0
        index = temporary.new_path(self.scratch / STAGING)
        try:
            with index.open("wb") as lines:

                def uploads() -> Iterator[Callable[[], None]]:
                    nonlocal files, size
                    for pack in packs(folder):
                        lines.writelines(entry.line() for entry in pack.entries())
                        files, size = files + len(pack.files), size + pack.size
                        yield lambda pack=pack: self.blobs.upload(pack)  # type: ignore[misc]

                in_parallel(uploads())
            digest = file_digest(index)
            self.blobs.upload(Pack([("", index.stat().st_size, digest)], digest, large=index))
        finally:
            index.unlink(missing_ok=True)
        return digest, files, size

    def _place_record(self, key: str, content: bytes) -> bool:
        """Write the record; False if another one was there first."""
        name = record_name(key)
        old = self.storage.stat(name)
        if old is None or self._counts(old):
            return self.storage.create(name, content)
        self.storage.write(name, content)  # at no moment is there none
        return True

    def _counts(self, info: ObjectInfo) -> bool:
        return self.after is None or info.modified > self.after

    # Reading

    def _fill(self, record: ArtifactRecord, folder: Path) -> None:
        in_parallel(
            (lambda entries=entries: self._extract(entries, record.key, folder))  # type: ignore[misc]
            for entries in by_blob(self.files(record))
        )

    def _extract(self, entries: list[FileEntry], key: str, folder: Path) -> None:
        try:
            for parent in {entry.path.rpartition("/")[0] for entry in entries}:
                (folder / parent).mkdir(parents=True, exist_ok=True)
            if len(entries) == 1 and entries[0].size > SMALL_BYTES:
                self.blobs.fetched(entries[0].blob, key).rename(folder / entries[0].path)
                return
            for entry, content in zip(entries, self.blobs.content(entries, key), strict=True):
                with open(f"{folder}/{entry.path}", "xb") as file:
                    file.write(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ArtifactCorrupt(f"{key}: its file list holds a path twice: {error.filename}") from error
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror}; free some space and run again") from error
