"""Logs that machines read: one JSON object a line, each with the ids of what its process works on."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

from workers.processes.masking import masked_content

_ids: dict[str, str] = {}
"""Ids of the process, not of a thread: a worker does one thing at a time, and what its threads log belongs to it."""
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Fields of every log record; any other was given as ``extra``."""


@contextlib.contextmanager
def working_on(**ids: str) -> Iterator[None]:
    """Add ids (sweep, trial, stage) to the lines that this process logs meanwhile."""
    before = dict(_ids)
    _ids.update(ids)
    try:
        yield
    finally:
        _ids.clear()
        _ids.update(before)


class JsonLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self.host = socket.gethostname()

    def format(self, record: logging.LogRecord) -> str:
        """``time`` (UTC), ``level``, ``logger``, ``message``, the ids, ``extra`` fields, ``host``, ``pid`` and, of an
        exception, ``traceback``."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids,
            # Ray adds fields of its own to every record; their names begin with an underscore.
            **{n: value for n, value in vars(record).items() if n not in _PLAIN and not n.startswith("_")},
            "host": self.host,
            "pid": record.process,
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(masked_content(json.loads(json.dumps(content, default=str))))
