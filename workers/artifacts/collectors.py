"""Collectors at work: each is an object without content, whose name tells its process, written anew while it works.

A lease takes a folder and a block of the disk; a collection is asked for where neither can be had.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator

from aream.errors import AreamError
from workers.artifacts.leases import LEASES, SILENT_S
from workers.artifacts.storages.protocol import ObjectInfo, ObjectStorage
from workers.processes.temporary import new_name, orphaned

log = logging.getLogger(__name__)

COLLECTORS = f"{LEASES}collection-"
BEAT_S = SILENT_S / 60


class Collector:
    """This process as a collector; a context while it works."""

    def __init__(self, storage: ObjectStorage) -> None:
        self.storage, self.name = storage.with_patience(BEAT_S / 3), f"{COLLECTORS}{new_name()}"
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._keep, name="collector", daemon=True)

    def __enter__(self) -> Collector:
        self.storage.write(self.name, b"")
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()
        try:
            self.storage.delete(self.name)
        except AreamError as problem:
            log.warning("%s stays until its process is seen to be dead: %s", self.name, problem)

    def _keep(self) -> None:
        while not self.over.wait(BEAT_S):
            try:
                self.storage.write(self.name, b"")
            except Exception as error:  # whatever it is: the next one may come through
                log.warning("%s cannot be renewed now: %s: %s", self.name, type(error).__name__, error)


def living(infos: Iterable[ObjectInfo]) -> Iterator[tuple[str, str]]:
    """Name below ``leases/`` and process of each collector among the objects that may still work."""
    for info in infos:
        own = info.name.removeprefix(COLLECTORS)
        if own != info.name and not orphaned(own) and info.modified >= time.time() - SILENT_S:
            yield info.name.removeprefix(LEASES), own.partition(".")[0]
