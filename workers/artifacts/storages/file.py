"""Objects as files of a local or shared folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote

from aream.errors import ConfigError, StoreUnavailable
from aream.system_errors import FULL
from workers.artifacts.storages.protocol import ObjectInfo
from workers.artifacts.waits import USUAL, Waits
from workers.processes import temporary
from workers.processes.atomic_write import naming, sync, sync_folder

T = TypeVar("T")
TEMPORARY = "staging"
PLACINGS = 100
"""Most attempts at making a folder that another process removed because it was empty."""


def open_storage(parts: SplitResult, endpoint: str | None, waits: Waits = USUAL) -> FolderStorage:
    """``file:///folder``, which is not waited for.

    Raises:
        ConfigError: a host or an endpoint is given, or something else than an absolute path.
    """
    if parts.netloc or endpoint:
        raise ConfigError(f"store.uri: given {parts.geturl()!r}; a folder has no host: need file:///folder")
    if not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ConfigError(f"store.uri: given {parts.geturl()!r}; need file:///folder, in it %3F for ? and %23 for #")
    return FolderStorage(Path(unquote(parts.path)))


class FolderStorage:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = root.as_uri()
        self.seen = root.is_dir()
        """True once the folder was seen: if it is gone later, it was moved or unmounted, and is not made again."""

    def check(self) -> None:
        try:
            with naming(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                self._link(self._temporary_with(b""), linked := self._temporary())
                linked.unlink(missing_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"store.uri: {self.root} is not a folder ({error.strerror})") from error
        except OSError as error:
            if error.errno in FULL:
                raise
            raise ConfigError(f"store.uri: {self.root} cannot be written ({error.strerror})") from error

    def with_patience(self, seconds: float) -> FolderStorage:
        return self

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(name)

        def content() -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read() if length is None else file.read(length)

        return self._present(content, path)

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        self._guarded(lambda: self._replace(self._temporary_with(content), path), path)

    def create(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        if self.stat(name) is not None:
            return False
        return self._guarded(lambda: self._link(self._temporary_with(content), path), path)

    def upload(self, name: str, path: Path) -> None:
        target = self._path(name)

        def place() -> None:
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

        self._present(place, path)

    def stat(self, name: str) -> ObjectInfo | None:
        path = self._path(name)
        try:
            found = self._present(path.stat, path)
        except FileNotFoundError:
            return None
        return ObjectInfo(name, found.st_size, found.st_mtime)

    def touch(self, name: str) -> None:
        path = self._path(name)
        self._present(lambda: os.utime(path), path)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        yield from self._below(f"{folder}/" if folder else "", prefix)

    def delete(self, name: str) -> None:
        path = self._path(name)
        self._guarded(lambda: path.unlink(missing_ok=True), path)
        self._drop_empty(path.parent)

    def delete_unchanged(self, info: ObjectInfo) -> bool:
        path = self._path(info.name)
        if self.stat(info.name) not in (info, None):
            return False
        aside = self._temporary()

        def remove() -> bool:
            try:
                path.rename(aside)  # what is looked at now cannot be touched before it goes
            except FileNotFoundError:
                return True
            found = aside.stat()
            unchanged = (found.st_size, found.st_mtime) == (info.size, info.modified)
            if unchanged:
                aside.unlink()
            else:
                self._link(aside, path)
            return unchanged

        removed = self._guarded(remove, path)
        self._drop_empty(path.parent)
        return removed

    def discard_unfinished(self, older_than: float) -> int:
        """None: temporary files lie in the store's staging folder, and go with what else dead writers left there."""
        return 0

    def _path(self, name: str) -> Path:
        return self.root / name

    def _below(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        path = self._path(folder)

        def entries() -> list[os.DirEntry[str]]:
            with os.scandir(path) as found:
                return sorted(found, key=lambda entry: entry.name)

        try:
            found = self._present(entries, path)
        except FileNotFoundError:  # nothing was written there yet, or it was emptied and removed
            return
        for entry in found:
            name = folder + entry.name
            if self._guarded(lambda entry=entry: entry.is_dir(follow_symlinks=False), path):  # type: ignore[misc]
                if f"{name}/".startswith(prefix) or prefix.startswith(f"{name}/"):
                    yield from self._below(f"{name}/", prefix)
            elif name.startswith(prefix) and (info := self.stat(name)) is not None:
                yield info

    def _temporary(self) -> Path:
        self._refuse_gone()
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
        self._place(os.replace, beside, path)

    def _link(self, beside: Path, path: Path) -> bool:
        """A link is the one call that fails where the name exists, on NFS too."""
        try:
            self._place(os.link, beside, path)
        except FileExistsError:
            return False
        return True

    def _place(self, move: Callable[[Path, Path], None], beside: Path, path: Path) -> None:
        try:
            for left in reversed(range(PLACINGS)):
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    move(beside, path)
                    break
                except FileNotFoundError:
                    if left == 0 or not beside.exists():
                        raise
        finally:
            beside.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # deleted again, with its folder
            sync_folder(path.parent)
        self.seen = True

    def _drop_empty(self, folder: Path) -> None:
        """Folders of names such as ``leases/NAME/0`` would pile up for ever; those at the top stay."""
        while folder.parent != self.root and self.root in folder.parents:
            try:
                folder.rmdir()
            except OSError:  # not empty, or removed by another
                return
            folder = folder.parent

    def _present(self, work: Callable[[], T], path: Path) -> T:
        """Raises ``FileNotFoundError`` where the system says for certain that nothing is there."""
        try:
            return self._guarded(work, path)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                self._refuse_gone()
                raise FileNotFoundError(str(path)) from None
            raise

    def _refuse_gone(self) -> None:
        """Raises ``StoreUnavailable`` where the whole store is away: what it holds is not absent."""
        if self.seen and not self.root.is_dir():
            raise StoreUnavailable(f"{self.root}: the folder of the store is gone")

    def _guarded(self, work: Callable[[], T], path: Path) -> T:
        try:
            return work()
        except OSError as error:
            if error.errno in FULL:
                raise StoreUnavailable(f"{path}: {error.strerror}; free some space and run again") from error
            where, why = error.filename or path, error.strerror or error
            raise StoreUnavailable(f"{where}: the store cannot be used ({why})") from error
