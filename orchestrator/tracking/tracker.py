"""The one writer of a sweep's record. Calls append to a spool and return; a thread delivers, and waits out a
dead server.

Runs have names of our own ("sweep", "trial/KEY"), by which a backend finds what it made of them: a retry, a resumed
sweep or a replayed spool continues the run it began instead of making another.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.tracking.backends.protocol import Backend, TrackingRefused
from orchestrator.tracking.events import Event, is_event
from orchestrator.tracking.pages import RecordPages
from orchestrator.tracking.spool import Spool, SpoolUnavailable
from workers.processes.background import begin
from workers.processes.masking import masked, masked_content

log = logging.getLogger(__name__)

BATCH = 500
LONGEST_WAIT_S = 30.0


class Tracker:
    """Records a sweep's runs; ``close`` before the process ends."""

    records = True

    def __init__(self, backend: Backend, sweep_id: str, spool_dir: Path) -> None:
        self.backend, self.where = backend, backend.where
        self.spool_dir = spool_dir
        self.spool = Spool(spool_dir, is_event)
        self.problem: str | None = None
        """Reason why nothing can be delivered at the moment; None: it can."""
        self.permanent: str | None = None
        """Reason why nothing can be delivered until somebody changes something; events stay in the spool."""
        self.refused = 0
        """Events that will never be taken, kept in ``refused.jsonl`` with why."""
        self.delivery = backend.delivery(sweep_id, self._keep_refused)
        self.counted = 0
        self.closing = threading.Event()
        self.news = threading.Event()
        self.deadline = math.inf
        self.thread = begin("tracking", self._deliver)

    def start_run(
        self,
        run: str,
        *,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> None:
        values = {key: str(value) for key, value in (params or {}).items()}
        self._append("start", run, name=name, parent=parent, tags=dict(tags or {}), params=values)

    def log_metrics(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Numbers that are not finite are left out."""
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        if finite:
            self._append("metrics", run, metrics=finite, step=step)

    def log_file(self, run: str, path: Path, folder: str = "") -> None:
        """Keep a file with the run; it is copied at once, so it may change afterwards."""
        self.log_content(run, path.name, path.read_bytes(), folder)

    def log_content(self, run: str, name: str, content: bytes, folder: str = "") -> None:
        """Keep bytes with the run as a file."""
        self._append("file", run, path=self._kept(name, content), bytes=len(content), folder=folder)

    def log_image(self, run: str, name: str, png: bytes) -> None:
        """Keep a picture that other runs have too, under the same name, for looking at them side by side."""
        path = self._kept(f"{name.rpartition('/')[2]}.png", png)
        self._append("image", run, path=path, bytes=len(png), name=name)

    def set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        self._append("tags", run, tags=dict(tags))

    def describe(self, run: str, markdown: str) -> None:
        """The run's description; ``{{run:NAME}}`` becomes the link to that run."""
        self._append("describe", run, text=markdown)

    def show_table(self, run: str, metrics: Sequence[str], params: Sequence[str], best: str) -> None:
        """Open the record on a table of configurations with these columns, sorted by the first metric; ``best`` is max
        or min."""
        self._append("table", run, metrics=list(metrics), params=list(params), best=best)

    def log_dataset(self, run: str, name: str, digest: str, source: str, context: str) -> None:
        self._append("dataset", run, name=name, digest=digest, source=source, context=context)

    def end_run(self, run: str, status: str) -> None:
        """``status`` is FINISHED, FAILED or KILLED."""
        self._append("end", run, status=status)

    def pages(self, timeout_s: float) -> RecordPages | None:
        """Where the record is looked at; waits until it has all that was given so far, or does not answer."""
        end = time.monotonic() + timeout_s
        while self.spool.offset < self.spool.size and self.problem is None and time.monotonic() < end:
            time.sleep(0.05)
        return RecordPages(None if self.backend.remote else self.backend.browse(), self.delivery.pages())

    def close(self, timeout_s: float) -> int:
        """Deliver what is left; returns how many events wait for the next time because the server is away."""
        self.deadline = time.monotonic() + timeout_s
        self.closing.set()
        self.news.set()
        self.thread.join(timeout_s + 1)
        try:
            try:
                left = self.spool.left()
            finally:
                self.spool.close()
        except SpoolUnavailable as error:
            log.warning("tracking: %s", error)
            return max(self.counted, 1)
        return left

    def left(self) -> int:
        """The number of waiting events; the last known one if the spool cannot be read."""
        with contextlib.suppress(SpoolUnavailable):
            self.counted = self.spool.left()
        return self.counted

    @property
    def refused_file(self) -> Path:
        return self.spool_dir / "refused.jsonl"

    def _keep_refused(self, event: Event, why: str) -> None:
        reason = masked(why.splitlines()[0] if why else "no reason given")
        with self.refused_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "reason": reason}) + "\n")
        self.refused += 1
        what = f"{event['kind']} of {event['run']}"
        log.warning("%s refuses %s: %s; kept in %s", self.where, what, reason, self.refused_file)

    def _kept(self, name: str, content: bytes) -> str:
        """The file, from the spool's folder on: a sweep goes on where its folder was moved or copied to."""
        kept = Path("files", uuid.uuid4().hex, masked(name))  # as its event has it
        (self.spool_dir / kept).parent.mkdir(parents=True)
        (self.spool_dir / kept).write_bytes(content)
        return str(kept)

    def _located(self, event: Event) -> Event:
        return {**event, "path": str(self.spool_dir / event["path"])} if "path" in event else event

    def _append(self, kind: str, run: str, **content: Any) -> None:
        self.spool.append({"kind": kind, "run": run, "time": int(time.time() * 1000), **masked_content(content)})
        self.news.set()

    def _deliver(self) -> None:
        """The thread: in order, in batches, until closed and empty or out of time."""
        wait = 0.5
        while True:
            closing = self.closing.is_set()  # before reading: what is appended last comes before the closing
            try:
                events = self.spool.pending(BATCH)
                self.delivery.write([self._located(event) for event, _ in events])
                if events:
                    self.spool.done(events[-1][1])
            except Exception as error:  # whatever the server, its database or a disk does must not reach the training
                self.permanent = str(error) if isinstance(error, TrackingRefused) else None
                reason = self.permanent or (str(error).splitlines()[0] if str(error) else type(error).__name__)
                self.problem = masked(reason if isinstance(error, SpoolUnavailable) else f"{self.where}: {reason}")
                log.warning("tracking waits: %s", self.problem)
                if time.monotonic() + wait > self.deadline or (self.permanent and closing):
                    return
                self.closing.wait(wait * random.uniform(0.5, 1.5))
                if self.closing.is_set():
                    time.sleep(min(wait, 1.0))
                wait = min(wait * 2, LONGEST_WAIT_S)
                continue
            wait, self.problem, self.permanent = 0.5, None, None
            if (closing and not events) or time.monotonic() > self.deadline:
                return
            if not events:
                self.news.wait(1.0)
                self.news.clear()


class NoTracker(Tracker):
    """Records nothing, and keeps nothing for later."""

    records = False

    def __init__(self) -> None:
        self.problem = self.permanent = None
        self.refused = 0

    def log_content(self, run: str, name: str, content: bytes, folder: str = "") -> None: ...

    def log_image(self, run: str, name: str, png: bytes) -> None: ...

    def pages(self, timeout_s: float) -> RecordPages | None:
        """Nowhere."""
        return None

    def close(self, timeout_s: float) -> int:
        return 0

    def left(self) -> int:
        return 0

    def _append(self, kind: str, run: str, **content: Any) -> None: ...
