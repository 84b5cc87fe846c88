"""An append-only log of events with a reader that remembers how far it got: what a dead server is owed."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from workers.atomic_write import write_text

Event = dict[str, Any]


class Spool:
    """One JSON object a line. A torn last line (the writer was killed in it) is cut off when the log is opened."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.offset_file = folder / "events.jsonl", folder / "offset"
        self.lock = threading.Lock()
        self._cut_torn_line()
        self.file = self.path.open("ab")
        self.offset = min(self._read_offset(), self.path.stat().st_size)

    def append(self, event: Event) -> None:
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        with self.lock:
            self.file.write(line)
            self.file.flush()

    def pending(self, limit: int) -> list[tuple[Event, int]]:
        """The next events, each with the offset behind it."""
        found: list[tuple[Event, int]] = []
        behind = self.offset
        with self.path.open("rb") as file:
            file.seek(behind)
            for line in file:
                if not line.endswith(b"\n") or len(found) == limit:
                    break
                behind += len(line)
                found.append((json.loads(line), behind))
        return found

    def done(self, offset: int) -> None:
        """Everything before ``offset`` was delivered."""
        write_text(self.offset_file, str(offset))
        self.offset = offset

    def left(self) -> int:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return sum(1 for _ in file)

    def close(self) -> None:
        with self.lock:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def _read_offset(self) -> int:
        try:
            return int(self.offset_file.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
