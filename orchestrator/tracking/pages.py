"""Pages of a sweep's runs in its record, for whoever links to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RecordPages:
    command: str | None
    """The command that shows the record; None: a server does at any time."""
    runs: Mapping[str, str]
    """Run -> URL of its page, of those that are recorded and have one; while the command runs, where there is one."""
