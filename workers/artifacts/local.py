"""The store in a local or shared folder.

Layout: ``objects/KEY/`` holds the files, ``records/KEY.json`` says they are complete, ``staging/`` what is being
written. Objects are renamed into place, records replaced atomically and last: at any kill a key reads as absent or
as whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from aream.errors import ArtifactCorrupt, ArtifactNotFound, DataError
from workers.artifacts.record import ArtifactRecord, FileEntry, check_key


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.verified: set[str] = set()

    def has(self, key: str) -> bool:
        return self._record_file(key).is_file()

    def record(self, key: str) -> ArtifactRecord:
        path = self._record_file(key)
        try:
            text = path.read_text()
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"no artifact {key} in {self.root}") from error
        record = ArtifactRecord.from_json(text, str(path))
        if record.key != key:
            raise ArtifactCorrupt(f"{path}: is the record of {record.key}")
        return record

    def get(self, key: str) -> Path:
        record = self.record(key)
        folder = self._object(key)
        if key not in self.verified:
            for entry in record.files:
                _verify(folder / entry.path, entry)
            self.verified.add(key)
        return folder

    def staging(self) -> Path:
        folder = self.root / "staging" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def put(self, key: str, source: Path, record: ArtifactRecord) -> ArtifactRecord:
        if self.has(key):
            shutil.rmtree(source)
            return self.record(key)
        record = dataclasses.replace(record, files=tuple(_list_files(source)))
        if source.parent != self.root / "staging":
            staged = self.staging()
            shutil.copytree(source, staged, dirs_exist_ok=True)
            source = staged
        _sync_tree(source)
        self._publish(source, key)
        self._write_record(record)
        return self.record(key)

    def keys(self) -> Iterator[str]:
        for path in sorted((self.root / "records").glob("*.json")):
            yield path.stem

    def discard(self, key: str) -> None:
        self._record_file(key).unlink(missing_ok=True)
        self.verified.discard(key)
        self._move_aside(self._object(key))

    def _publish(self, source: Path, key: str) -> None:
        target = self._object(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                os.rename(source, target)
            except OSError:
                if not target.exists():
                    raise
                if self.has(key):  # another writer was first: its bytes are as good as ours
                    shutil.rmtree(source)
                    return
                self._move_aside(target)  # left by a writer that was killed before its record
            else:
                _sync_folder(target.parent)
                return

    def _write_record(self, record: ArtifactRecord) -> None:
        if self.has(record.key):
            return
        path = self._record_file(record.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with beside.open("w") as file:
            file.write(record.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)

    def _move_aside(self, folder: Path) -> None:
        aside = self.root / "staging" / uuid.uuid4().hex
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(folder, aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside)

    def _object(self, key: str) -> Path:
        return self.root / "objects" / check_key(key)

    def _record_file(self, key: str) -> Path:
        return self.root / "records" / f"{check_key(key)}.json"


def _list_files(folder: Path) -> Iterator[FileEntry]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{path}: an artifact holds plain files and folders only")
        if path.is_file():
            yield FileEntry(path.relative_to(folder).as_posix(), path.stat().st_size, _digest(path))


def _verify(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtifactCorrupt(f"{path}: missing, though its record lists it")
    if path.stat().st_size != entry.size or _digest(path) != entry.sha256:
        raise ArtifactCorrupt(f"{path}: differs from its record (expected {entry.size} bytes, sha256 {entry.sha256})")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync_folder(path)  # files and folders alike are opened for reading and synced
    _sync_folder(folder)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
