"""Fetch the content of a URI in a store: one object, an archive, a folder of objects, or an artifact.

    s3://bucket/prefix/deit_small.pth     one object
    s3://bucket/prefix/VOC2012.tar        an archive (.tar, .tar.gz, .tgz, .tar.bz2, .tar.xz), unpacked
    s3://bucket/prefix/VOC2012            all objects under prefix/VOC2012/
    artifact://KEY                        the files of an artifact of the sweep's own store

``file:///...`` works as ``s3://`` does. Bytes are checked against ``NAME.sha256`` beside an object or ``SHA256SUMS`` in
a folder, both as ``sha256sum`` writes them, where these exist; else against the listed sizes.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from aream import discover
from aream.errors import ConfigError, DataError
from workers.artifacts import storages
from workers.artifacts.blobs import in_parallel
from workers.artifacts.packing import file_digest
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.storages.protocol import ObjectInfo, ObjectStorage
from workers.artifacts.store import ArtifactStore

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NO_ARCHIVES = (".pth.tar", ".pt.tar", ".ckpt.tar")
"""Names that weight files usually have and that are no archives."""
SUMS, SUM_SUFFIX = "SHA256SUMS", ".sha256"
BLOCK = 4096
"""Bytes that even the smallest file takes."""
ASK_BYTES = 1 << 30
"""Bytes of an archive's content after which free space is checked again."""
READS = 3
"""Wrong bytes may be the way's fault."""
PATIENCE_S = 60.0
ARTIFACT = "artifact"
FILES = "files"

Room = Callable[[int, int], None]
"""Takes the bytes that are needed in all, and those already written; raises where there is no room."""


class ContentSource(Protocol):
    @property
    def version(self) -> str:
        """Equal only for equal content, as far as names, sizes and times tell."""

    @property
    def size(self) -> int:
        """Bytes to fetch."""

    def fetch(self, folder: Path, room: Room) -> Path:
        """Write the content into an empty folder; returns the file or folder in it that the URI means.

        Raises:
            DataError: the content is damaged, or an archive reaches outside of the folder.
            StoreUnavailable: no answer, or no space.
        """


def open_source(uri: str, endpoint: str | None, store: Callable[[], ArtifactStore]) -> ContentSource:
    """Look at what a URI names.

    Raises:
        ConfigError: a URI that no storage understands.
        AreamError: nothing is there, or the storage does not answer.
    """
    parts = urlsplit(uri)
    if parts.scheme == ARTIFACT:
        found = store()
        return Artifact(found.storage, found.record(parts.netloc))
    if parts.scheme not in discover.names(storages):
        allowed = ", ".join(f"{name}://" for name in (*discover.names(storages), ARTIFACT))
        raise ConfigError(f"{uri}: no such storage {parts.scheme}://; allowed are a path, {allowed}")
    place, _, name = parts.path.rstrip("/").rpartition("/")
    if not name:
        raise ConfigError(f"{uri}: names no object and no folder; need {parts.scheme}://.../NAME")
    name = unquote(name) if parts.scheme == "file" else name
    storage = _storage(uri, parts._replace(path=place or "/", fragment=""), endpoint)
    root: Path | None = getattr(storage, "root", None)
    folder = parts.path.endswith("/") if root is None else (root / name).is_dir()
    single = None if folder else storage.stat(name)
    if single is not None:
        return SingleObject(uri, storage, single, storage.stat(name + SUM_SUFFIX))
    infos = []
    if folder or root is None:
        infos = [info for info in storage.list(f"{name}/") if not info.name.endswith("/")]
    if not infos:
        raise DataError(f"{uri}: no such object, and no folder of that name")
    return ObjectFolder(uri, storage, f"{name}/", infos)


def _storage(uri: str, parts: SplitResult, endpoint: str | None) -> ObjectStorage:
    module: Any = discover.load(storages, parts.scheme)
    try:
        storage: ObjectStorage = module.open_storage(parts, endpoint if parts.scheme != "file" else None)
    except ConfigError as error:
        raise ConfigError(f"{uri}: {str(error).removeprefix('store.uri: ')}") from error
    return storage.with_patience(PATIENCE_S)


def _version(infos: Sequence[ObjectInfo | None]) -> str:
    listed = [[info.name, info.size, info.modified] for info in infos if info is not None]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


class SingleObject:
    def __init__(self, uri: str, storage: ObjectStorage, info: ObjectInfo, digest: ObjectInfo | None) -> None:
        self.uri, self.storage, self.info, self.digest = uri, storage, info, digest
        self.version, self.size = _version([info, digest]), info.size

    def fetch(self, folder: Path, room: Room) -> Path:
        sums = _sums(self.storage, self.digest.name) if self.digest else {}
        path = folder / self.info.name
        room(self.size, 0)
        _download(self.uri, self.storage, self.info, path, next(iter(sums.values()), None))
        name = self.info.name.lower()
        if not name.endswith(ARCHIVES) or name.endswith(NO_ARCHIVES):
            return path
        content = folder / FILES
        content.mkdir()
        _unpack(self.uri, path, content, lambda size: room(self.size + size, self.size))
        path.unlink()
        return content


class ObjectFolder:
    def __init__(self, uri: str, storage: ObjectStorage, prefix: str, infos: Sequence[ObjectInfo]) -> None:
        self.uri, self.storage, self.prefix, self.infos = uri, storage, prefix, infos
        self.version, self.size = _version(infos), sum(_on_disk(info.size) for info in infos)

    def fetch(self, folder: Path, room: Room) -> Path:
        content = folder / FILES
        room(self.size, 0)
        paths = {info.name: content / self._inside(info.name) for info in self.infos}
        folders = {parent for path in paths.values() for parent in path.relative_to(folder).parents}
        for name, path in paths.items():
            if path.relative_to(folder) in folders:
                raise DataError(f"{self.uri}: {name!r} is an object and a folder")
        for parent in folders:
            (folder / parent).mkdir(parents=True, exist_ok=True)
        listed = any(info.name == self.prefix + SUMS for info in self.infos)
        sums = _sums(self.storage, self.prefix + SUMS) if listed else {}
        missing = sums.keys() - {self._inside(name) for name in paths}
        if missing:
            raise DataError(f"{self.uri}: {SUMS} names {sorted(missing)[0]!r}, which is not there")
        in_parallel(
            lambda info=info: _download(  # type: ignore[misc]
                self.uri, self.storage, info, paths[info.name], sums.get(self._inside(info.name))
            )
            for info in self.infos
        )
        return content

    def _inside(self, name: str) -> str:
        """The path under the folder; an object may have any name."""
        inside = name.removeprefix(self.prefix)
        if any(part in ("", ".", "..") for part in inside.split("/")) or "\0" in inside:
            raise DataError(f"{self.uri}: the object {name!r} is not a path of a file in it")
        return inside


@dataclass
class Artifact:
    storage: ObjectStorage
    record: ArtifactRecord

    @property
    def version(self) -> str:
        return self.record.index

    @property
    def size(self) -> int:
        return self.record.size + BLOCK * self.record.files

    def fetch(self, folder: Path, room: Room) -> Path:
        room(self.size, 0)
        scratch, content = folder / "scratch", folder / FILES
        ArtifactStore(self.storage, scratch).get(self.record.key).rename(content)
        shutil.rmtree(scratch)
        return content


def _download(uri: str, storage: ObjectStorage, info: ObjectInfo, path: Path, digest: str | None) -> None:
    root: Path | None = getattr(storage, "root", None)
    for _ in range(READS):
        try:
            if root is not None:  # its own download gives links, whose bytes would change with their owner's
                shutil.copyfile(root / info.name, path)
            else:
                storage.download(info.name, path)
        except FileNotFoundError as error:
            raise DataError(f"{uri}: {info.name} is gone") from error
        if path.stat().st_size == info.size and (digest is None or file_digest(path) == digest):
            return
        path.unlink()
    what = "the size listed" if digest is None else f"the digest {digest[:16]}... written beside it"
    raise DataError(f"{uri}: {info.name} does not arrive with {what}, {READS} times")


def _sums(storage: ObjectStorage, name: str) -> dict[str, str]:
    """Path -> digest, from ``sha256sum``'s output."""
    found = {}
    for line in storage.read(name).decode(errors="replace").splitlines():
        digest, _, path = line.strip().partition(" ")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise DataError(f"{storage.uri}/{name}: not as sha256sum writes it: {line[:80]!r}")
        found[path.strip().removeprefix("*").removeprefix("./")] = digest
    return found


def _unpack(uri: str, archive: Path, folder: Path, room: Callable[[int], None]) -> None:
    """Unpack what stays inside of the folder; looked through first, so that no more is written than there is room."""
    try:
        with tarfile.open(archive) as members:
            total = asked = 0
            for member in members:
                total += _on_disk(max(0, member.size))
                if total - asked > ASK_BYTES:  # before what it says it holds is read
                    room(total)
                    asked = total
            room(total)
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{uri}: refused as an archive: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{uri}: refused as an archive: {error}") from error  # gzip's own, about the content


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def bytes_of(folder: Path) -> int:
    """Bytes that the files of a folder take, at least a block each."""
    return sum(_on_disk((Path(place) / file).lstat().st_size) for place, _, files in os.walk(folder) for file in files)
