"""Artifacts by key: a folder of files and a record, complete or absent.

Layout of the storage: ``blobs/ab/DIGEST`` (files, packs of small files, file lists; each named by its content, so
that artifacts share what they have in common), ``records/KEY.json`` (written last: it says the artifact is complete),
``checkpoints/``, ``leases/`` and ``sweeps/``. Readers get a folder of plain files, a view, in a scratch folder of
their own machine.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from aream.errors import ArtifactCorrupt, ArtifactNotFound, StoreUnavailable
from workers.artifacts import temporary
from workers.artifacts.blobs import Blobs, by_blob, in_parallel
from workers.artifacts.index import FileEntry, parse
from workers.artifacts.packing import SMALL_BYTES, Pack, file_digest, packs
from workers.artifacts.record import ArtifactRecord, check_key
from workers.artifacts.storages._protocol import ObjectStorage

RECORDS, VIEWS, INDEXES, STAGING = "records/", "views", "indexes", "staging"


class ArtifactStore:
    def __init__(self, storage: ObjectStorage, scratch: Path) -> None:
        """``scratch``: a local folder for views and for what is being written."""
        self.storage, self.scratch = storage, scratch
        self.blobs = Blobs(storage, scratch / STAGING)
        self.trusted: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether a complete artifact is there."""
        return self.storage.stat(record_name(key)) is not None

    def record(self, key: str) -> ArtifactRecord:
        """Raises ``ArtifactNotFound``, or ``ArtifactCorrupt`` where the record cannot be read."""
        name = record_name(key)
        try:
            text = self.storage.read(name).decode()
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {key} in {self.storage.uri}") from error
        except UnicodeDecodeError as error:
            raise ArtifactCorrupt(f"{self.storage.uri}/{name}: not an artifact record: {error}") from error
        record = ArtifactRecord.from_json(text, f"{self.storage.uri}/{name}")
        if record.key != key:
            raise ArtifactCorrupt(f"{self.storage.uri}/{name}: is the record of {record.key}")
        return record

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
        record = self.record(key)
        view = self._view(record)
        if view.name not in self.trusted:
            if view.is_dir() and not self._intact(record, view):
                self._remove(view)
            if not view.is_dir():
                self._build(record, view)
            self.trusted.add(view.name)
        return view

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
            if not self.has(key):
                index, files, size = self._publish(staged)
                record = dataclasses.replace(record, index=index, files=files, size=size)
                if self.storage.create(record_name(key), record.to_json().encode()):
                    self._keep_as_view(staged, record)
            return self.record(key)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def keys(self) -> Iterator[str]:
        for info in self.storage.list(RECORDS):
            if info.name.endswith(".json"):
                yield info.name.removeprefix(RECORDS).removesuffix(".json")

    def discard(self, key: str) -> None:
        """Forget an artifact; its blobs stay until they are collected. A key that is not there is no error."""
        self.storage.delete(record_name(key))
        for view in (self.scratch / VIEWS).glob(f"{key}.*"):
            self.trusted.discard(view.name)
            self._remove(view)

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
        for view in (self.scratch / VIEWS).glob("*"):
            if view.name.partition(".")[0] not in needed and view.stat().st_mtime <= oldest:
                self._remove(view)
        for cached in (self.scratch / INDEXES).glob("*"):
            if cached.stat().st_mtime <= oldest:
                cached.unlink(missing_ok=True)

    def remove_orphans(self) -> int:
        """Remove what writers on this machine left that no longer run."""
        return temporary.remove_orphans(self.scratch / STAGING)

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

    def _keep_as_view(self, staged: Path, record: ArtifactRecord) -> None:
        """What was just written is at once what readers on this machine want."""
        view = self._view(record)
        view.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.rename(view)
        except OSError:  # there is one already
            return
        self.trusted.add(view.name)

    # Reading

    def _view(self, record: ArtifactRecord) -> Path:
        """Named by the content too: an artifact computed anew is another folder."""
        return self.scratch / VIEWS / f"{record.key}.{record.index[:16]}"

    def _intact(self, record: ArtifactRecord, view: Path) -> bool:
        count = 0
        for entry in self.files(record):
            path = view / entry.path
            if not path.is_file() or path.stat().st_size != entry.size or file_digest(path) != entry.sha256:
                return False
            count += 1
        return count == record.files

    def _build(self, record: ArtifactRecord, view: Path) -> None:
        folder = self.staging()
        try:
            in_parallel(
                (lambda entries=entries: self._extract(entries, record.key, folder))  # type: ignore[misc]
                for entries in by_blob(self.files(record))
            )
            view.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.rename(view)
            except OSError:
                if not view.is_dir():
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

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

    def _remove(self, view: Path) -> None:
        """At once out of the readers' way."""
        aside = temporary.new_path(self.scratch / STAGING)
        try:
            view.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)


def record_name(key: str) -> str:
    return f"{RECORDS}{check_key(key)}.json"
