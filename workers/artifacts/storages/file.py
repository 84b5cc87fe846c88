"""Objects as files of a local or shared folder."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote

from aream.errors import ConfigError, StoreUnavailable
from workers.artifacts import temporary
from workers.artifacts.storages._protocol import ObjectInfo
from workers.atomic_write import sync, sync_folder

T = TypeVar("T")
TEMPORARY = "staging"
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk without space, or of a user who has used up his share."""


def open_storage(parts: SplitResult, endpoint: str | None) -> FolderStorage:
    """``file:///folder``.

    Raises:
        ConfigError: a host or an endpoint is given.
    """
    if parts.netloc or endpoint:
        raise ConfigError(f"store.uri: given {parts.geturl()!r}; a folder has no host: need file:///folder")
    return FolderStorage(Path(unquote(parts.path)))


class FolderStorage:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = root.as_uri()

    def check(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.create("probe/check", b"")
            self.delete("probe/check")
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"store.uri: {self.root} is no folder ({error.strerror})") from error
        except OSError as error:
            if error.errno in FULL:
                raise
            raise ConfigError(f"store.uri: {self.root} cannot be written ({error.strerror})") from error

    def with_patience(self, seconds: float) -> FolderStorage:
        return self

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self._path(name).open("rb") as file:
            file.seek(start)
            return file.read() if length is None else file.read(length)

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        self._guarded(lambda: self._replace(self._temporary_with(content), path), path)

    def create(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        if path.exists():
            return False
        return self._guarded(lambda: self._link(self._temporary_with(content), path), path)

    def upload(self, name: str, path: Path) -> None:
        target = self._path(name)

        def place() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = self._temporary()
            try:
                os.link(path, beside)
            except OSError:  # another file system
                shutil.copyfile(path, beside)
            sync(beside)
            self._replace(beside, target)

        self._guarded(place, target)

    def download(self, name: str, path: Path) -> None:
        source = self._path(name)

        def place() -> None:
            try:
                os.link(source, path)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(source, path)

        self._guarded(place, path)

    def stat(self, name: str) -> ObjectInfo | None:
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        return ObjectInfo(name, found.st_size, found.st_mtime)

    def touch(self, name: str) -> None:
        os.utime(self._path(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = self.root / prefix
        if not folder.is_dir():
            folder = folder.parent
        for place, folders, files in os.walk(folder):
            folders.sort()
            for file in sorted(files):
                name = (Path(place) / file).relative_to(self.root).as_posix()
                if name.startswith(prefix) and (info := self.stat(name)) is not None:
                    yield info

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def discard_unfinished(self, older_than: float) -> int:
        """Temporary files of writers that died are removed with the folder they stand in."""
        oldest, count = time.time() - older_than, 0
        for path in (self.root / TEMPORARY).glob("*"):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                count += 1
        return count

    def _path(self, name: str) -> Path:
        return self.root / name

    def _temporary(self) -> Path:
        return temporary.new_path(self.root / TEMPORARY)

    def _temporary_with(self, content: bytes) -> Path:
        beside = self._temporary()
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        return beside

    def _replace(self, beside: Path, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)

    def _link(self, beside: Path, path: Path) -> bool:
        """A link is the one call that fails where the name exists, on NFS too."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(beside, path)
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(path.parent)
        return True

    def _guarded(self, work: Callable[[], T], path: Path) -> T:
        try:
            return work()
        except OSError as error:
            if error.errno in FULL:
                raise StoreUnavailable(f"{path}: {error.strerror}; free some space and run again") from error
            raise
