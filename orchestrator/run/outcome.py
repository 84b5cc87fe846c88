"""The result of one run of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.results.ranking import Ranked


@dataclass
class SweepOutcome:
    ranking: list[Ranked]
    failures: dict[str, str] = field(default_factory=dict)
    """Key -> reason."""
    untracked: int = 0
    """Tracking events kept for the next run because the server is away."""
    ended: str | None = None
    """Reason why the sweep ended early; None: it did not."""
    unranked: dict[str, str] = field(default_factory=dict)
    """Title of a configuration without the metric that is ranked by -> why."""
