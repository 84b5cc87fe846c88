"""The list of an artifact's files: one JSON line a file, in the order of the packs they lie in.

A list of its own beside the record keeps records small, whatever they describe, and is read as a stream: an artifact
of 100,000 files needs no more memory than one of ten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aream.errors import ArtifactCorrupt
from workers.artifacts.record import DIGEST

MAX_SIZE = 1 << 50
LONGEST_PATH = 1024


@dataclass(frozen=True, slots=True)
class FileEntry:
    path: str
    """Path relative to the artifact, with forward slashes."""
    size: int
    sha256: str
    blob: str
    """Digest of the blob that holds it."""
    offset: int
    """Position in the blob at which the file begins, in bytes."""

    def line(self) -> bytes:
        return json.dumps([self.path, self.size, self.sha256, self.blob, self.offset]).encode() + b"\n"


def parse(lines: Iterable[bytes], origin: str) -> Iterator[FileEntry]:
    """Entries of an index.

    Raises:
        ArtifactCorrupt: a line that is no entry, or a path that leaves the artifact.
    """
    for number, line in enumerate(lines, start=1):
        try:
            path, size, sha256, blob, offset = json.loads(line)
            entry = FileEntry(path, size, sha256, blob, offset)
            _check(entry)
        except (ValueError, TypeError, RecursionError) as error:
            raise ArtifactCorrupt(f"{origin}: line {number} of its file list is not an entry: {error}") from error
        yield entry


def _check(entry: FileEntry) -> None:
    if type(entry.path) is not str or not 0 < len(entry.path) <= LONGEST_PATH:
        raise ValueError("the path must be a text")
    if "\0" in entry.path or not {"", ".", ".."}.isdisjoint(entry.path.split("/")):
        raise ValueError(f"the file {entry.path!r} lies outside the artifact")
    for digest in (entry.sha256, entry.blob):
        if type(digest) is not str or not DIGEST.fullmatch(digest):
            raise ValueError("digests must be sha256 in hexadecimal")
    for number in (entry.size, entry.offset):
        if type(number) is not int or not 0 <= number <= MAX_SIZE:
            raise ValueError(f"sizes and offsets must lie in [0, {MAX_SIZE}]")
