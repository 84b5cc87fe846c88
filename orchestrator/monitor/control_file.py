"""A person's requests to a running sweep, in a small file that any terminal writes and the driver reads."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.processes.atomic_write import StateFile, write_json

STATES = ("run", "pause", "stop")


@dataclass
class ControlFile:
    sweep: str = "run"
    """run, pause or stop."""
    trials: dict[str, str] = field(default_factory=dict)
    """Trial key -> pause or stop; others run."""

    @classmethod
    def read(cls, path: Path) -> ControlFile:
        """Read the file; an absent one holds no orders.

        Raises:
            DamagedFile: a file that holds no orders.
        """
        holds = "which trials are paused or stopped by hand"
        go_on = "delete it and give these orders again with `python -m orchestrator.control`"
        return StateFile(path, holds, go_on, cls._parse).read() or cls()

    @classmethod
    def _parse(cls, content: bytes) -> ControlFile:
        given: Any = json.loads(content)
        if not isinstance(given, dict) or not isinstance(given.get("trials", {}), dict):
            raise ValueError("need sweep and trials")
        orders = cls(given.get("sweep", "run"), dict(given.get("trials", {})))
        wrong = [state for state in (orders.sweep, *orders.trials.values()) if state not in STATES]
        if wrong:
            raise ValueError(f"given {reprlib.repr(wrong[0])}; allowed are {', '.join(STATES)}")
        return orders

    def write(self, path: Path) -> None:
        write_json(path, {"sweep": self.sweep, "trials": self.trials}, indent=1)
