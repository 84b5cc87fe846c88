"""Watch stages that another process computes until they can run or are stored."""

from __future__ import annotations

import time
from collections.abc import Callable

from aream.errors import AreamError
from workers.artifacts.leases import Leases
from workers.artifacts.store import ArtifactStore

LOOK_S = 2.0


class LeaseWatch:
    """Stages computed elsewhere, watched without a slot of the cluster."""

    def __init__(
        self, store: ArtifactStore, leases: Leases | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.leases, self.clock = store, leases or Leases(store.storage), clock
        self.looked: dict[str, float] = {}

    def free(self, key: str) -> bool:
        """True if the stage is stored by now or no living process computes it; asks the store at most every 2 s."""
        now = self.clock()
        if now - self.looked.get(key, -LOOK_S) < LOOK_S:
            return False
        self.looked[key] = now
        try:
            if not self.store.has(key):
                if self.leases.living(key) is not None:
                    return False
                self.leases.clear(key)  # for workers, who have not watched it long enough to know that it is dead
        except AreamError:
            return False
        del self.looked[key]
        return True

    def holder(self, key: str) -> str:
        """The process that computes it, for people."""
        try:
            found = self.leases.holder(key)
        except AreamError:
            return "another process"
        return found.owner if found else "nobody"
