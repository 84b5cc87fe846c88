"""Write and read files that outlive a process: whole or not at all, also after a power cut.

Without the fsync of the content, a power cut may leave the new name with zero bytes; without that of the folder, the
old content after the new one was relied on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from aream.errors import DamagedFile
from workers.processes import temporary

log = logging.getLogger(__name__)

T = TypeVar("T")
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)
"""Error numbers of file systems that cannot sync folders (FUSE, CIFS), and of folders that may not be read."""
MOST_SHOWN = 300
"""Characters of a reason."""
DAMAGED = ".damaged"
"""Ends the name under which a damaged file is kept."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file, or make it with its folder: who reads sees the old content or the new, never half of it.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    with naming(path):
        beside = temporary.new_path(path.parent)
        try:
            beside.write_bytes(content)
            replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system that names no file name this one: of a full disk that is met in writing, none does."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """The same in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """The same as JSON."""
    write_text(path, json.dumps(content, indent=indent))


def replace(beside: Path, path: Path) -> None:
    """Give a complete file on the same file system its name, once its content is on the disk."""
    sync(beside)
    os.replace(beside, path)
    sync_folder(path.parent)


def place_folder(beside: Path, path: Path) -> None:
    """Give a complete folder on the same file system its name, once all its files are on the disk.

    Raises:
        OSError: a folder that is not empty has the name.
    """
    _sync_file_system(beside)  # one call for thousands of files
    os.replace(beside, path)
    sync_folder(path.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(inside: Path) -> None:
    """Sync the file system of a folder only: ``os.sync`` would also wait for a network file system that hangs."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:  # not Linux
        os.sync()
        return
    descriptor = os.open(inside, os.O_RDONLY)
    try:
        if call(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(inside))
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    try:
        sync(path)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


@dataclass(frozen=True)
class StateFile(Generic[T]):
    """A small file that a sweep goes on from, and what to say where it is damaged."""

    path: Path
    holds: str
    """Content that is lost with the file, as in "it holds ..."."""
    go_on: str
    """Advice to a person, as a clause."""
    parse: Callable[[bytes], T]
    """Raises ``ValueError``, ``TypeError``, ``KeyError`` or the like for what it never wrote."""

    def read(self) -> T | None:
        """Return its content; None where there is no file.

        Raises:
            DamagedFile: it cannot be read, or holds something else.
        """
        content = self._content()
        return None if content is None else self._parsed(content)

    def read_or_begin_anew(self) -> T | None:
        """The same for what can be made again: a damaged file is told, kept under another name and counts as absent.

        Raises:
            DamagedFile: it cannot be read at the moment.
        """
        content = self._content()
        try:
            return None if content is None else self._parsed(content)
        except DamagedFile as error:
            kept = self.path.with_name(self.path.name + DAMAGED)
            log.warning("%s (the damaged file is kept as %s)", error, kept.name)
            shutil.move(self.path, kept)
            return None

    def _content(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedFile(
                f"{self.path}: cannot be read ({error.strerror}); it holds {self.holds}; {self.go_on}"
            ) from error

    def _parsed(self, content: bytes) -> T:
        try:
            return self.parse(content)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            why = "it is empty" if not content else "it is all zero bytes" if not content.strip(b"\0") else str(error)
            why = f"it has no {why}" if isinstance(error, KeyError) else why
            why = why if len(why) <= MOST_SHOWN else f"{why[:MOST_SHOWN]} ..."
            raise DamagedFile(f"{self.path}: is damaged ({why}); it holds {self.holds}; {self.go_on}") from error
