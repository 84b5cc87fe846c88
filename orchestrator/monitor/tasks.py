"""One task of a running sweep: a shared stage, a trial or a segmentation job."""

from __future__ import annotations

from dataclasses import dataclass, field

ENDED = ("done", "failed", "stopped")
COMPUTED_ELSEWHERE = "computed elsewhere"
"""Status of a task that waits until another process has computed one of its stages."""
ORDER = ("shared stage", "trial", "segmentation")
"""Kinds of tasks that run one after the other."""


@dataclass
class TaskState:
    """One trial, prelude stage or segmentation job."""

    key: str
    title: str
    kind: str
    status: str = "waiting"
    """waiting, running, done, failed, stopped (pruned by the scheduler), paused or computed elsewhere."""
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    started: float | None = None
    ended: float | None = None
    cached: bool = False
    """Answered from the store."""
    row_at: float | None = None
    """When the last epoch was reported."""
    live_epochs: int = 0
    """Epochs computed since it started, and below what they took."""
    live_seconds: float = 0.0

    @property
    def pace_s(self) -> float | None:
        """Seconds of an epoch."""
        return self.live_seconds / self.live_epochs if self.live_epochs else None
