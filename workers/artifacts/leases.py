"""Leases on stages that are being computed, so that workers, sweeps or machines that need one compute it once.

A lease is an object ``leases/NAME/GENERATION`` that its holder rewrites with a higher beat every few seconds. Nobody
compares clocks: a lease is dead when an observer saw no new beat for ``ttl_s`` of its own monotonic time, or at once
where its process ran on this machine and is gone. It is taken over by creating the next generation, of which only one
can succeed. A holder that comes back, frozen or cut off for a while, looks first whether it still is the holder: where
another is, it has lost the lease and its ``lost`` says so; where nobody is, it takes the lease again.

Others may write there too: a name that is no generation's is passed over, content that is no lease's never beats.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from aream.errors import AreamError
from workers.artifacts.storages.protocol import ObjectStorage
from workers.processes.identity import Process

log = logging.getLogger(__name__)

LEASES = "leases/"
TTL_S = 60.0
BEATS_A_TTL = 6
SILENT_S = 3600.0
"""360 missed beats: whoever looks once, and cannot watch, takes the holder for dead."""
GENERATION = re.compile(r"[0-9]{8}")
LAST = 10**8 - 1
MOST_BYTES = 4096
"""Ten times what a lease takes: of an object that somebody else put there no more is read."""


@dataclass(frozen=True)
class Holder:
    """The holder of a lease, as written in it."""

    generation: int
    owner: str
    """``pid P on HOST``, for people."""
    process: str
    beat: int
    token: str
    """Random id of one acquisition of the lease."""

    def known_dead(self) -> bool:
        process = Process.parse(self.process)
        return process is not None and process.known_dead()


class Leases:
    """The leases of a storage as one process sees them."""

    def __init__(
        self, storage: ObjectStorage, ttl_s: float = TTL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.storage, self.ttl_s, self.clock = storage.with_patience(ttl_s / 3), ttl_s, clock
        self.seen: dict[str, tuple[Holder, float]] = {}
        """Name -> the holder, and when its beat was first seen as it is."""

    def take(self, name: str, on_beat: Callable[[], None] = lambda: None) -> Lease | None:
        """The lease, or None where another holds it.

        Args:
            on_beat: called with every beat, in the lease's own thread.
        """
        found = self.holder(name)
        if found is not None and not self._dead(name, found):
            return None
        if found is not None and found.generation == LAST:  # no name is left for the next one
            self.storage.delete(_object(name, LAST))
            return self.take(name, on_beat)
        return self._next(name, found, on_beat)

    def seize(self, name: str, on_beat: Callable[[], None] = lambda: None) -> Lease:
        """The lease, whoever held it so far: for what only one process does anyway, by another rule."""
        while True:
            found = self.holder(name)
            if found is not None and found.generation == LAST:
                self.storage.delete(_object(name, LAST))
            elif lease := self._next(name, found, on_beat):
                return lease

    def _next(self, name: str, found: Holder | None, on_beat: Callable[[], None]) -> Lease | None:
        generation = 0 if found is None else found.generation + 1
        own = Holder(generation, _owner(), Process.this().token(), 0, uuid.uuid4().hex)
        if not self.storage.create(_object(name, generation), _content(own)):
            return None
        self.seen.pop(name, None)
        return Lease(self.storage, name, own, self.ttl_s / BEATS_A_TTL, on_beat)

    def holder(self, name: str) -> Holder | None:
        """The holder of a lease, dead or alive."""
        return _holder(self.storage, name)

    def alive(self, name: str) -> Holder | None:
        """The holder of a lease if it may still run, by one look: neither known to be dead nor silent for long."""
        found = self.holder(name)
        if found is None or found.known_dead():
            return None
        last = self.storage.stat(_object(name, found.generation))
        return None if last is None or last.modified < time.time() - SILENT_S else found

    def living(self, name: str) -> Holder | None:
        """The holder of a lease unless seen to be dead; to be asked repeatedly, as silence shows a dead one."""
        found = self.holder(name)
        return None if found is None or self._dead(name, found) else found

    def clear(self, name: str) -> None:
        """Remove a lease whose holder is dead."""
        lease = self.take(name)
        if lease is not None:
            lease.release()

    def _dead(self, name: str, found: Holder) -> bool:
        if found.known_dead():
            return True
        known, since = self.seen.get(name, (None, 0.0))
        if known != found:
            self.seen[name] = (found, self.clock())
            return False
        return self.clock() - since >= self.ttl_s


class Lease:
    """Lease held until released, or lost; a context."""

    def __init__(
        self, storage: ObjectStorage, name: str, holder: Holder, beat_s: float, on_beat: Callable[[], None]
    ) -> None:
        self.storage, self.name, self.holder, self.beat_s, self.on_beat = storage, name, holder, beat_s, on_beat
        self.beat = 0
        self.released = threading.Event()
        self.lost = threading.Event()
        """True once another process, which took this one for dead, is the holder."""
        self.thread = threading.Thread(target=self._keep, name=f"lease {name}", daemon=True)
        self.thread.start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lease back, older generations first: else one of them would seem to be the holder."""
        self.released.set()
        self.thread.join()
        if self.lost.is_set():
            return
        try:
            for generation in _generations(self.storage, self.name):
                if generation <= self.holder.generation:
                    self.storage.delete(_object(self.name, generation))
        except AreamError as error:
            log.warning("the lease of %s stays until it is seen to be dead: %s", self.name, error)

    def _keep(self) -> None:
        while not self.released.wait(self.beat_s):
            try:
                self.on_beat()
                if not self._beat():
                    self.lost.set()
                    log.warning("the lease of %s was taken over by another process", self.name)
                    return
            except Exception as error:  # whatever it is: the next beat may come through, and a silent holder is dead
                log.warning("the lease of %s cannot be renewed now: %s: %s", self.name, type(error).__name__, error)

    def _beat(self) -> bool:
        """Write a new beat for all to see; False if this process is no longer the holder."""
        self.beat += 1
        found = _holder(self.storage, self.name)
        if found is None:  # removed by one that took this process for dead
            own = replace(self.holder, generation=min(self.holder.generation + 1, LAST), beat=self.beat)
            if not self.storage.create(_object(self.name, own.generation), _content(own)):
                return False
            self.holder = own
            return True
        if found.token != self.holder.token:
            return False
        self.storage.write(_object(self.name, found.generation), _content(replace(self.holder, beat=self.beat)))
        return True


def _holder(storage: ObjectStorage, name: str) -> Holder | None:
    for generation in reversed(list(_generations(storage, name))):
        try:
            return _parse(generation, storage.read(_object(name, generation), length=MOST_BYTES))
        except FileNotFoundError:  # released between the two calls
            continue
    return None


def _object(name: str, generation: int) -> str:
    return f"{LEASES}{name}/{generation:08d}"


def _generations(storage: ObjectStorage, name: str) -> Iterator[int]:
    """Ascending."""
    prefix = f"{LEASES}{name}/"
    numbers = [info.name.removeprefix(prefix) for info in storage.list(prefix)]
    yield from sorted(int(number) for number in numbers if GENERATION.fullmatch(number))


def _owner() -> str:
    return f"pid {Process.this().pid} on {socket.gethostname()}"


def _content(holder: Holder) -> bytes:
    names = ("owner", "process", "beat", "token")
    return json.dumps({name: getattr(holder, name) for name in names}).encode()


def _parse(generation: int, content: bytes) -> Holder:
    """A damaged lease is one that never beats."""
    try:
        given = json.loads(content)
        owner, process, token = (str(given[name]) for name in ("owner", "process", "token"))
        if not owner.isprintable():  # people read it in a terminal
            raise ValueError("need a printable owner")
        return Holder(generation, owner, process, int(given["beat"]), token)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Holder(generation, "unknown", "", 0, "")
