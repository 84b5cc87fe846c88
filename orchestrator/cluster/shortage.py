"""Tell a sweep that waits for nodes from one that works: Ray does not report jobs that it cannot place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from orchestrator.cluster.resources import amounts, requested
from orchestrator.spec.settings import Resource

PATIENCE_S = 60.0
"""Starting a worker may take half of it on a busy machine."""
STARTING_S = 5 * PATIENCE_S
"""Longest that a worker's own start may take: until then a place that was free is taken to be the sweep's own."""

Free = Callable[[], Mapping[str, tuple[float, float]]]
"""Returns name -> (free, total) for each resource of the cluster."""


class Shortage:
    """Reports that jobs of one kind wait for resources; to be polled while such jobs are wanted."""

    def __init__(
        self,
        resource: Resource,
        free: Free,
        tell: Callable[[str | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``tell`` takes what is missing, once, and None when it has come."""
        self.asked, self.free, self.tell, self.clock = requested(resource), free, tell, clock
        self.since: float | None = None
        self.patience = PATIENCE_S
        self.told = False

    def look(self, *, wanted: bool, running: bool) -> None:
        """
        Args:
            wanted: whether Ray was asked for a place that it has not given.
            running: whether another job of the kind has one: the rest waits its turn.
        """
        if not wanted or running:
            self.since = None
            if self.told:
                self.told = False
                self.tell(None)
            return
        now = self.clock()
        if self.since is None:
            # What there was for it when it was asked for it has been given: its own worker takes the time.
            self.since, self.patience = now, STARTING_S if self._enough() else PATIENCE_S
        if not self.told and now - self.since >= self.patience:
            self.told = True
            self.tell(self._missing())

    def _enough(self) -> bool:
        """True if the requested resources are free in the cluster."""
        free = self.free()
        return all(free.get(name, (0.0, 0.0))[0] >= amount for name, amount in self.asked.items())

    def _missing(self) -> str:
        cluster = self.free()
        have = {name: cluster.get(name, (0.0, 0.0)) for name in self.asked}
        shown = ", ".join(f"{name} {free:g} of {most:g}" for name, (free, most) in have.items())
        return f"waiting for resources: need {amounts(self.asked)} on one node; free in the cluster: {shown}"
