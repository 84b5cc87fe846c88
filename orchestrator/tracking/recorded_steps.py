"""Which epochs of which runs were recorded, over all runs of a sweep."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from orchestrator.tracking.tracker import Tracker

log = logging.getLogger(__name__)
ENDED = -1


class RecordedSteps:
    """A file beside the tracker's spool; of a tracker that records nothing, memory alone."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker, self.one_at_a_time = tracker, threading.Lock()
        self.file = tracker.spool_dir / "recorded.jsonl" if tracker.records else None
        self.steps = last_steps(self.file, tracker.spool.size) if self.file else {}
        """Run -> last step recorded."""

    def is_new(self, key: str, step: int) -> bool:
        """Whether the step of a run is yet to be recorded: later than the last one of a run that goes on."""
        return not self.has_ended(key) and step > self.steps.get(key, 0)

    def has_ended(self, key: str) -> bool:
        return self.steps.get(key) == ENDED

    def add(self, key: str, step: int) -> None:
        """Append a line: to write anew what a sweep of thousands of trials has recorded would take too long."""
        self.steps[key] = step
        if self.file is None:
            return
        with self.one_at_a_time, self.file.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps([key, step, self.tracker.spool.size])}")

    def end(self, key: str) -> None:
        self.add(key, ENDED)


def last_steps(path: Path, spooled: int) -> dict[str, int]:
    """The last step of each run that reached the spool, of which ``spooled`` bytes are there.

    A line torn by a kill counts as not written, and so does one whose event a power cut took from the spool.
    """
    steps: dict[str, int] = {}
    lines = path.read_bytes().splitlines() if path.exists() else []
    damaged = 0
    for line in filter(None, lines):
        try:
            key, step, behind = json.loads(line)
            if behind <= spooled:
                steps[str(key)] = int(step)
        except (ValueError, TypeError, RecursionError):
            damaged += line is not lines[-1]
    if damaged:
        log.warning("%s: %d lines are damaged; what they tell is recorded once more", path, damaged)
    return steps
