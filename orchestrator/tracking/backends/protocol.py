"""Protocol of tracking backends; a module of this folder is one, found by its name (``tracking: {name: NAME}``).

It holds ``Config``, the keys of that section, and

    open_backend(config: Config, workspace: Workspace, home: Path) -> Backend | None

which asks nobody; relative locations start at ``home``; None: nothing is recorded. It raises ``ConfigError`` where no
record could lie. Its class and that of its delivery are subclasses of the two here. Where a record may end with a job
that is sent to a cluster, ``check_job(config, variables)`` raises ``ConfigError`` for it; ``variables`` are the names
of what the job's environment holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from orchestrator.tracking.events import Event

Refuse = Callable[[Event, str], None]
"""Keeps an event that will never be taken, with why."""


class TrackingRefused(Exception):
    """Nothing can be recorded until somebody changes something; the message says what."""


class Delivery(Protocol):
    """Used by the tracker's thread alone."""

    def write(self, events: list[Event]) -> None:
        """Record events in their order. All of them come again where it raised or this process was killed, and those
        of several calls may: what is recorded already must not be there twice.

        Raises:
            TrackingRefused: trying again will never help.
            Exception: trying again may.
        """

    def pages(self) -> Mapping[str, str]:
        """Run -> URL of its page, of the runs that are recorded; none where a record has no pages.

        Another thread asks, while nothing is written.
        """
        return {}


class Backend(Protocol):
    where: str
    """The record, for people: without a password."""
    remote: bool
    """True if a server keeps the record; it may be unreachable."""
    part: str = ""
    """Of what lies at ``where``, if it holds several records."""

    def check(self) -> str | None:
        """Ask, before anything is trained, whether events will be taken; makes no record.

        Returns:
            Why not now, where that may be over tomorrow: until then events wait on disk.

        Raises:
            ConfigError: they will never be as it is.
        """

    def browse(self) -> str:
        """The URL to open, or the command to paste into a shell, to look at the record."""

    def delivery(self, sweep_id: str, refuse: Refuse) -> Delivery:
        """``sweep_id`` tells a sweep's runs from those of others; resuming it finds them again."""
