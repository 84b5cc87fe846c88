"""Putting small files together: 10,582 label PNGs become a dozen blobs instead of 10,582 requests.

A pack ends where the content says so (after a file whose digest begins with ten zero bits), not after a fixed count:
two artifacts that share a run of files share its packs, also where one has a file more at its front.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
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

    files: list[tuple[str, int, str]]
    """(path, size, digest)"""
    digest: str
    content: bytes = b""
    large: Path | None = None

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
    files: list[tuple[str, int, str]] = []
    contents: list[bytes] = []
    held = 0

    def closed() -> Pack:
        nonlocal files, contents, held
        content = b"".join(contents)
        pack = Pack(files, hashlib.sha256(content).hexdigest(), content)
        files, contents, held = [], [], 0
        return pack

    for path, name in _walk(str(folder), ""):
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.readall() if size <= SMALL_BYTES else None
        if content is None:
            large = Path(path)
            digest = file_digest(large)
            yield Pack([(name, size, digest)], digest, large=large)
            continue
        if files and held + len(content) > PACK_BYTES:
            yield closed()
        small = hashlib.sha256(content)
        files.append((name, len(content), small.hexdigest()))
        contents.append(content)
        held += len(content)
        if small.digest()[0] == 0 and small.digest()[1] < 64:
            yield closed()
    if files:
        yield closed()


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    """(path, name in the artifact): a folder's own files, then its folders."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                raise DataError(f"{entry.path}: an artifact holds plain files and folders only")
    for name in sorted(files):
        path, relative = f"{folder}/{name}", prefix + name
        try:
            relative.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{path!r}: an artifact's file names are UTF-8") from error
        yield path, relative
    for name in sorted(folders):
        yield from _walk(f"{folder}/{name}", f"{prefix}{name}/")


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
