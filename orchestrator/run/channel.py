"""The line between the driver and its workers: rows and signs of life one way, wishes to stop the other."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from aream.errors import Interrupted
from orchestrator.cluster.node_images import images_actor
from workers.processes.identity import Process

if TYPE_CHECKING:  # the actor needs no torch, which takes seconds to import
    from workers.stage import Row

log = logging.getLogger(__name__)

EVERYTHING = "*"
"""Stands for every key."""
ASK_S = 1.0
ANSWER_S = 20.0
"""Seconds that the driver waits for another node to begin a task."""


@dataclass(frozen=True)
class Heartbeat:
    """The last sign of life of who works on a key."""

    node: str
    process: str
    silent_s: float


@ray.remote(num_cpus=0, max_restarts=-1)
class _Channel:
    def __init__(self) -> None:
        self.rows: list[tuple[str, Row]] = []
        self.halted: frozenset[str] = frozenset()
        self.signs: dict[str, tuple[str, str, float]] = {}
        self.images: dict[str, Any] = {}

    def post(self, key: str, row: Row) -> None:
        self.rows.append((key, row))

    def ask(self, key: str, node: str, process: str) -> bool:
        self.signs[key] = node, process, time.monotonic()
        return key in self.halted or EVERYTHING in self.halted

    def left(self, key: str) -> None:
        self.signs.pop(key, None)

    def images_of(self, node: str) -> Any:
        """The actor of a node, which lives as long as this one."""
        if node not in self.images:
            self.images[node] = images_actor(node)
        return self.images[node]

    def look(self, halted: frozenset[str]) -> tuple[list[tuple[str, Row]], dict[str, Heartbeat]]:
        self.halted = halted
        rows, self.rows = self.rows, []
        now = time.monotonic()
        return rows, {key: Heartbeat(node, process, now - seen) for key, (node, process, seen) in self.signs.items()}


class WorkerChannel:
    """The driver's end; one for all phases of a run."""

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.actor: Any = _Channel.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        self.answer: Any = None

    def look(self, halted: Iterable[str]) -> tuple[list[tuple[str, Row]], dict[str, Heartbeat] | None]:
        """Say which keys are to stop; get the rows since the last look and who works on what.

        Never waits: until the channel has answered, there are no rows, and None in place of the signs.
        """
        rows: list[tuple[str, Row]] = []
        signs: dict[str, Heartbeat] | None = None
        if self.answer is not None:
            done, _ = ray.wait([self.answer], timeout=0)
            if not done:
                return rows, signs
            try:
                rows, signs = ray.get(self.answer)
            except ray.exceptions.RayError as error:  # it died, and Ray starts it again
                log.warning("the channel does not answer: %s", type(error).__name__)
        self.answer = self.actor.look.remote(frozenset(halted))
        return rows, signs


class WorkerEnd:
    """A worker's end, for one key; a context."""

    def __init__(self, actor: Any, key: str) -> None:
        self.actor, self.key = actor, key
        self.me = ray.get_runtime_context().get_node_id(), Process.this().token()
        self.asked, self.halted = -ASK_S, False
        self.answer: Any = None

    def __enter__(self) -> WorkerEnd:
        """
        Raises:
            Interrupted: the driver wants nothing of the kind any more; Ray had given it a place already.
        """
        self.stop()
        with contextlib.suppress(concurrent.futures.TimeoutError, ray.exceptions.RayError):
            self.halted = self.answer.result(timeout=ASK_S)
        if self.halted:
            self.__exit__()
            raise Interrupted("stopped before it began")
        return self

    def __exit__(self, *error: object) -> None:
        self.actor.left.remote(self.key)

    def images_actor(self) -> Any:
        """What keeps this node's decoded images; None without an answer."""
        with contextlib.suppress(concurrent.futures.TimeoutError, ray.exceptions.RayError):
            return self.actor.images_of.remote(self.me[0]).future().result(timeout=ANSWER_S)
        return None

    def post(self, row: Row, key: str | None = None) -> None:
        """``key`` None: this one's own."""
        self.actor.post.remote(key or self.key, row)

    def stop(self) -> bool:
        """True if the driver's last answer was to stop; never waits, so that a training may ask every step."""
        if self.answer is not None and self.answer.done():
            try:
                self.halted = self.answer.result()
            except ray.exceptions.RayError:  # the driver is gone, and Ray ends this worker soon
                log.warning("no answer from the driver")
            self.answer = None
        if self.answer is None and time.monotonic() - self.asked >= ASK_S:
            self.asked = time.monotonic()
            # A task that looks for an answer with ray.wait gives its cores to another one meanwhile.
            self.answer = self.actor.ask.remote(self.key, *self.me).future()
        return self.halted


@ray.remote(num_cpus=0, max_retries=0)
def _kill(token: str) -> bool:
    process = Process.parse(token)
    if process is None or process.machine != Process.this().machine or process.known_dead():
        return False
    os.kill(process.pid, signal.SIGKILL)
    return True


def kill_worker(sign: Heartbeat) -> bool:
    """Kill a worker that shows no sign of life; False where its node does not answer either."""
    there = NodeAffinitySchedulingStrategy(sign.node, soft=False)
    try:
        return bool(ray.get(_kill.options(scheduling_strategy=there).remote(sign.process), timeout=ANSWER_S))
    except (ray.exceptions.RayError, ValueError) as error:
        log.warning("cannot reach node %s: %s", sign.node, type(error).__name__)
        return False
