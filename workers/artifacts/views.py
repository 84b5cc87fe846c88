"""Folders of plain files that readers on this machine get: made once, checked once a process, bounded in size.

A view is named by its content too, so an artifact computed anew is another folder. Where the views are a cache on a
node, a store object that gave one out holds its shared lock; what nobody uses and was not used for longest goes first.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from workers.artifacts.index import FileEntry
from workers.artifacts.packing import file_digest
from workers.artifacts.record import ArtifactRecord
from workers.processes import temporary
from workers.processes.file_lock import LOOK_S, FileLock

log = logging.getLogger(__name__)

VIEWS, LOCKS, SIZES, STAGING = "views", "view-locks", "view-sizes", "staging"
BLOCK = 4096
"""Bytes that even the smallest file takes."""


class Views:
    def __init__(self, scratch: Path, max_bytes: int | None, ready: Path | None = None) -> None:
        """
        Args:
            max_bytes: what all views may take together, but for those in use; None: no bound.
            ready: a folder with views of others, of which none is changed.
        """
        self.scratch, self.max_bytes, self.ready = scratch, max_bytes, ready
        self.trusted: set[str] = set()
        self.checked: set[Path] = set()
        """Of the views of others, those that are whole."""
        self.locks: dict[str, FileLock] = {}
        weakref.finalize(self, _release, self.locks)

    def path(self, record: ArtifactRecord) -> Path:
        return self.scratch / VIEWS / f"{record.key}.{record.index[:16]}"

    def get(
        self, record: ArtifactRecord, files: Callable[[], Iterable[FileEntry]], fill: Callable[[Path], None]
    ) -> Path:
        """The view of an artifact.

        Args:
            files: gives the entries of its file list.
            fill: writes its files into an empty folder.
        """
        view = self.path(record)
        given = None if self.ready is None else self.ready / VIEWS / view.name
        if given is not None and given.is_dir() and (given in self.checked or _intact(record, given, files())):
            self.checked.add(given)
            return given
        while not self._in_use(view):
            if view.name not in self.trusted and view.is_dir() and not _intact(record, view, files()):
                self.remove(view)
            if not view.is_dir():
                self._build(record, view, fill)
            self.trusted.add(view.name)
        return view

    def keep(self, staged: Path, record: ArtifactRecord) -> None:
        """Turn files that were just written into the view for readers on this machine."""
        view = self.path(record)
        self._make_room(view, _size(record))
        view.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.rename(view)
        except OSError:  # there is one already
            return
        self.trusted.add(view.name)

    def drop(self, key: str) -> None:
        for view in self.by_key().get(key, ()):
            self.remove(view)

    def by_key(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for view in self._all():
            found.setdefault(view.name.partition(".")[0], []).append(view)
        return found

    def trim(self, needed: Collection[str], oldest: float) -> None:
        """Remove views of artifacts that nobody needs, unused since ``oldest``."""
        for view in self._all():
            if view.name.partition(".")[0] not in needed and self._last_use(view) <= oldest:
                self._evict(view)

    def _in_use(self, view: Path) -> bool:
        """True if the view is there and was checked by this process; its lock is then held, so that it stays."""
        if view.name not in self.trusted:
            return False
        if self.max_bytes is None:
            found = view.is_dir()
        else:
            self._held(view.name).used()
            found = view.is_dir()
        if not found:
            self.trusted.discard(view.name)
        return found

    def _held(self, name: str) -> FileLock:
        """The lock of a view, held shared."""
        while True:
            lock = self.locks.get(name) or FileLock(self.scratch / LOCKS / name)
            self.locks[name] = lock
            while not lock.try_shared():  # it is being evicted
                time.sleep(LOOK_S)
            if not lock.removed():  # with the view, while it was waited for
                return lock
            self.locks.pop(name).release()

    def _build(self, record: ArtifactRecord, view: Path, fill: Callable[[Path], None]) -> None:
        self._make_room(view, _size(record))
        folder = temporary.new_folder(self.scratch / STAGING)
        try:
            fill(folder)
            view.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.rename(view)
            except OSError:
                if not view.is_dir():
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _make_room(self, wanted: Path, size: int) -> None:
        if self.max_bytes is None:
            return
        with FileLock(self.scratch / LOCKS / ".room") as room:
            room.take_exclusive(f"room for {wanted.name}")
            sizes = {view: self._bytes(view) for view in self._all() if view != wanted}
            for view in sorted(sizes, key=self._last_use):
                if sum(sizes.values()) + size <= self.max_bytes:
                    break
                if self._evict(view):
                    del sizes[view]
            place = self.scratch / SIZES / wanted.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(str(size), encoding="utf-8")

    def _bytes(self, view: Path) -> int:
        try:
            return int((self.scratch / SIZES / view.name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return sum(path.lstat().st_size for path in view.rglob("*"))

    def _last_use(self, view: Path) -> float:
        for path in (self.scratch / LOCKS / view.name, view):
            try:
                return path.stat().st_mtime
            except FileNotFoundError:
                continue
        return time.time()

    def _evict(self, view: Path) -> bool:
        """Remove the view if nobody uses it; True if it was removed."""
        if self.max_bytes is None:
            self.remove(view)
            return True
        with FileLock(self.scratch / LOCKS / view.name) as lock:
            if view.name in self.locks or not lock.try_exclusive() or lock.removed():
                return False
            log.info("evicted the view %s", view.name)
            self.remove(view)
            (self.scratch / SIZES / view.name).unlink(missing_ok=True)
            lock.path.unlink(missing_ok=True)
            return True

    def _all(self) -> Iterator[Path]:
        try:
            names = os.listdir(self.scratch / VIEWS)
        except FileNotFoundError:
            return
        for name in names:
            yield self.scratch / VIEWS / name

    def remove(self, view: Path) -> None:
        """Remove a view; it is renamed first, so that readers see all of it or nothing."""
        self.trusted.discard(view.name)
        aside = temporary.new_path(self.scratch / STAGING)
        try:
            view.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)


def _intact(record: ArtifactRecord, view: Path, files: Iterable[FileEntry]) -> bool:
    count = 0
    for entry in files:
        path = view / entry.path
        if not path.is_file() or path.stat().st_size != entry.size or file_digest(path) != entry.sha256:
            return False
        count += 1
    return count == record.files


def _size(record: ArtifactRecord) -> int:
    return record.size + BLOCK * record.files


def _release(locks: dict[str, FileLock]) -> None:
    for lock in locks.values():
        lock.release()
