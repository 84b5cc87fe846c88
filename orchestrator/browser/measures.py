"""Numbers of every image, measured in the background and kept beside the sweep's results."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aream.errors import AreamError
from workers.processes.atomic_write import write_json

log = logging.getLogger(__name__)

AT_A_TIME = 16
"""Images measured before another list may go first."""
Row = list[Any]


class Measures:
    """A row of numbers an image, as far as they are measured."""

    def __init__(self, ids: Sequence[str], measure: Callable[[str], Row], file: Path) -> None:
        """``file`` keeps them once all are there; one of other images, or damaged, is made anew."""
        self.ids, self.measure, self.file = list(ids), measure, file
        self.rows: list[Row] = self._kept()
        self.failure: str | None = None

    @property
    def done(self) -> bool:
        return len(self.rows) == len(self.ids) or self.failure is not None

    def take_failure(self) -> str | None:
        """Why no more are measured, told once: whoever asks again has it tried again."""
        failure, self.failure = self.failure, None
        return failure

    def go_on(self) -> str | None:
        """Measure some more; returns why no more can be measured for now."""
        try:
            for image_id in self.ids[len(self.rows) : len(self.rows) + AT_A_TIME]:
                row = self.measure(image_id)
                if len(self.rows) + 1 == len(self.ids):
                    self._keep([*self.rows, row])  # before it is told that all are there
                self.rows.append(row)
        except (AreamError, OSError) as error:
            log.warning("%s", error)
            return str(error)
        except Exception as error:  # a file that is not as it should be; other lists are measured all the same
            at = next(iter(self.ids[len(self.rows) :]), self.file.name)
            failure = f"{at}: cannot be measured ({type(error).__name__}: {error})"
            log.warning("%s", failure, exc_info=True)
            return failure
        return None

    def _keep(self, rows: list[Row]) -> None:
        """For the next time; whoever may only read measures again."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.file, {"ids": self.ids, "rows": rows})
        except OSError as error:
            log.warning("%s: not kept (%s)", self.file, error.strerror)

    def _kept(self) -> list[Row]:
        try:
            content = json.loads(self.file.read_bytes())
            if content["ids"] == self.ids and len(content["rows"]) == len(self.ids):
                return [list(row) for row in content["rows"]]
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return []


class Measurer:
    """One thread that measures what was asked for last first."""

    def __init__(self) -> None:
        self.wanted: list[Measures] = []
        self.changed = threading.Condition()
        threading.Thread(target=self._run, name="measures", daemon=True).start()

    def want(self, measures: Measures) -> None:
        with self.changed:
            if measures in self.wanted:
                self.wanted.remove(measures)
            if not measures.done:
                self.wanted.append(measures)
                self.changed.notify()

    def _run(self) -> None:
        while True:
            with self.changed:
                while not self.wanted:
                    self.changed.wait()
                measures = self.wanted[-1]
            failure = measures.go_on()
            with self.changed:  # whoever sees the failure may ask again at once, and only then is it tried again
                measures.failure = failure
                if measures.done and measures in self.wanted:
                    self.wanted.remove(measures)
