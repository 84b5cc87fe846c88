"""Putting small files together: 10,582 label PNGs become a dozen blobs instead of 10,582 requests.

A pack ends where the content says so (after a file whose digest begins with ten zero bits), not after a fixed count:
two artifacts that share a run of files share its packs, also where one has a file more at its front.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aream.errors import DataError
from workers.artifacts.index import FileEntry

SMALL_BYTES = 1 << 20
"""A larger file is a blob of its own."""
PACK_BYTES = 8 << 20
"""A pack is closed before it grows beyond this."""


@dataclass
class Pack:
    """Small files one after the other, or one large file left where it is."""

    content: bytearray = field(default_factory=bytearray)
    files: list[tuple[str, int, str]] = field(default_factory=list)
    """(path, size, digest)"""
    large: Path | None = None
    digest: str = ""

    def close(self) -> Pack:
        self.digest = self.files[0][2] if self.large is not None else hashlib.sha256(self.content).hexdigest()
        return self

    @property
    def size(self) -> int:
        return sum(size for _, size, _ in self.files)

    def entries(self) -> Iterator[FileEntry]:
        offset = 0
        for path, size, sha256 in self.files:
            yield FileEntry(path, size, sha256, self.digest, offset)
            offset += size


def packs(folder: Path) -> Iterator[Pack]:
    """The files of a folder, in the order of their paths.

    Raises:
        DataError: a link, a device, or a name that is not UTF-8.
    """
    pack = Pack()
    for path, name in _walk(folder):
        size = path.stat().st_size
        if size > SMALL_BYTES:
            yield Pack(files=[(name, size, file_digest(path))], large=path).close()
            continue
        content = path.read_bytes()
        digest = hashlib.sha256(content)
        if pack.files and len(pack.content) + len(content) > PACK_BYTES:
            yield pack.close()
            pack = Pack()
        pack.files.append((name, len(content), digest.hexdigest()))
        pack.content += content
        if digest.digest()[0] == 0 and digest.digest()[1] < 64:
            yield pack.close()
            pack = Pack()
    if pack.files:
        yield pack.close()


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in [*folders, *sorted(files)]:
            path = Path(place) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise DataError(f"{path}: an artifact holds plain files and folders only")
        for name in sorted(files):
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            try:
                relative.encode()
            except UnicodeEncodeError as error:
                raise DataError(f"{path!r}: an artifact's file names are UTF-8") from error
            yield path, relative


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
