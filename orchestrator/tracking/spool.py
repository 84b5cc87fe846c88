"""An append-only log of events with a reader that remembers how far it got: what a dead server is owed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.tracking.events import Event
from workers.processes.atomic_write import StateFile, write_text

log = logging.getLogger(__name__)


class SpoolUnavailable(Exception):
    """The spool's files cannot be read or written at the moment; names the file."""


class Spool:
    """One JSON object a line. A torn last line (the writer was killed in it) is cut off when the log is opened."""

    def __init__(self, folder: Path, is_event: Callable[[Event], bool] = lambda event: True) -> None:
        """``is_event``: whether an object is what the reader can take; another one counts as damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.offset_file = folder / "events.jsonl", folder / "offset"
        self.is_event = is_event
        self.lock = threading.Lock()
        self._cut_torn_line()
        self.file = self.path.open("ab")
        self.size = self.path.stat().st_size
        self.offset = self.kept_offset = self._read_offset()
        self.damaged: set[int] = set()
        """Offsets of lines that are not events and were left out, in bytes."""

    def append(self, event: Event) -> None:
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        with self.lock:
            self.file.write(line)
            self.file.flush()
            self.size += len(line)

    def pending(self, limit: int) -> list[tuple[Event, int]]:
        """The next events, each with the offset behind it; a damaged line is told once and left out.

        Raises:
            SpoolUnavailable: the file cannot be read.
        """
        found: list[tuple[Event, int]] = []
        behind = self.offset
        with self._told(), self.path.open("rb") as file:
            file.seek(behind)
            for line in file:
                if not line.endswith(b"\n") or len(found) == limit:
                    break
                event = self._event(line)
                if event is None:
                    self._leave_out(behind, len(line))
                behind += len(line)
                if event is not None:
                    found.append((event, behind))
        if not found and behind > self.offset:  # damaged lines at the end
            self.done(behind)
        return found

    def done(self, offset: int) -> None:
        """Everything readable before ``offset`` was delivered.

        Raises:
            SpoolUnavailable: that cannot be kept at the moment; this process knows it nevertheless.
        """
        self.offset = offset
        with self._told():
            write_text(self.offset_file, str(offset))
        self.kept_offset = offset

    def left(self) -> int:
        """
        Raises:
            SpoolUnavailable: the file cannot be read.
        """
        with self._told(), self.path.open("rb") as file:
            file.seek(self.offset)
            return sum(1 for _ in file)

    def close(self) -> None:
        with self.lock, self._told(), self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        if self.kept_offset != self.offset:
            self.done(self.offset)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolUnavailable(f"{error.filename or self.path}: {error.strerror or error}") from error

    def _event(self, line: bytes) -> Event | None:
        """None for what no tracker wrote."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return event if isinstance(event, dict) and self.is_event(event) else None

    def _leave_out(self, start: int, length: int) -> None:
        if start not in self.damaged:
            self.damaged.add(start)
            log.warning(
                "%s: the %d bytes from byte %d on are damaged and no event of the tracking server's; they are left out,"
                " and what is behind them is sent; the results themselves are in the store and the report",
                self.path,
                length,
                start,
            )

    def _read_offset(self) -> int:
        """0 where it is damaged: everything is sent once more, which changes nothing."""
        holds = "how far events were sent to the tracking server"
        offset = StateFile(self.offset_file, holds, "all are sent once more, which changes nothing", int)
        found = offset.read_or_begin_anew() or 0
        if not 0 <= found <= self.size or (found and not self._ends_line(found)):
            log.warning("%s: %d is not behind an event; %s", offset.path, found, offset.go_on)
            return 0
        return found

    def _ends_line(self, offset: int) -> bool:
        with self.path.open("rb") as file:
            file.seek(offset - 1)
            return file.read(1) == b"\n"

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
