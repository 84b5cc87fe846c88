"""Events about a sweep's runs, in order: their form in the spool, and as given to a backend."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Event = dict[str, Any]
"""``kind``, ``run`` (a name of ours: "sweep", "trial/KEY"), ``time`` (ms since the epoch), and what its kind holds."""

CONTENT: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {"name": str, "parent": (str, type(None)), "tags": dict, "params": dict},
    "metrics": {"metrics": dict, "step": int},
    "file": {"path": str, "bytes": int, "folder": str},
    "image": {"path": str, "bytes": int, "name": str},
    "table": {"metrics": list, "params": list, "best": str},
    "tags": {"tags": dict},
    "describe": {"text": str},
    "dataset": {"name": str, "digest": str, "source": str, "context": str},
    "end": {"status": str},
}
"""Kind of event -> what it holds beside its run and time. A run that is resumed starts again; ``text`` is Markdown, in
which ``{{run:NAME}}`` stands for where another run is shown; a status is FINISHED, FAILED or KILLED. An image has the
same name in all runs that show the same; a table is what the record opens on: its columns, of which the first metric
sorts."""


def is_event(event: Event) -> bool:
    """True if an event can be delivered: an incomplete one would block all events behind it for ever."""
    content = {"run": str, "time": int} | CONTENT.get(str(event.get("kind")), {"no such kind": int})
    return all(isinstance(event.get(name, ...), kind) for name, kind in content.items())


def kept_file(event: Event) -> Path | None:
    """The file that a ``file`` or ``image`` event is about, alone in a folder that whoever has delivered it removes;
    None where that was done, or where a power cut has damaged it, which is told."""
    path = Path(event["path"])
    if not path.exists():
        return None
    if path.stat().st_size != event["bytes"]:
        log.warning("%s of %s is damaged and left out; what it shows is in the report", path.name, event["run"])
        return None
    return path


def grouped(events: Sequence[Event], together: Collection[str]) -> list[list[Event]]:
    """Consecutive events of one run and of a kind in ``together`` (files also of one folder) as one group, each other
    event alone; order kept."""
    groups: list[list[Event]] = []
    for event in events:
        last = groups[-1][-1] if groups else None
        if last and event["kind"] in together and _place(last) == _place(event):
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


def _place(event: Event) -> tuple[str, str, str]:
    return event["kind"], event["run"], event.get("folder", "")
