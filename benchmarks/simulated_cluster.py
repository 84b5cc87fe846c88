"""A Ray cluster that is only a queue of events, for Tune's controller to run trials on; nothing sleeps.

The clock is CPU time of the driver's thread plus the time skipped until the next event: while the driver works, the
simulated GPUs wait for it, as real ones would. What the simulated workers do is left out of the CPU time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import heapq
import itertools
import json
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from PIL import Image
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.tune.result import RESULT_DUPLICATE

from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.run.channel import Heartbeat, WorkerChannel
from workers.artifacts.record import ArtifactRecord, record_name
from workers.artifacts.store import ArtifactStore
from workers.stage import Stage
from workers.stages.pseudo_label import OVERLAYS_FOLDER

ACTOR_START_S = 15.0
"""Process start and imports of a worker."""
RESET_S = 0.05


class Clock:
    def __init__(self) -> None:
        self.began, self.origin = time.time(), time.thread_time()
        self.skipped = self.left_out = 0.0

    def work(self) -> float:
        """CPU seconds of the driver so far."""
        return time.thread_time() - self.origin - self.left_out

    def now(self) -> float:
        return self.began + self.skipped + self.work()

    def skip_to(self, moment: float) -> None:
        self.skipped += max(0.0, moment - self.now())

    @contextlib.contextmanager
    def leaving_out(self) -> Iterator[None]:
        """What the body does is no work of the driver's."""
        before = time.thread_time()
        try:
            yield
        finally:
            self.left_out += time.thread_time() - before


@dataclasses.dataclass(frozen=True)
class Durations:
    """Seconds of what a trial does, each trial off by up to a fifth."""

    epoch: float
    infer_cam: float
    pseudo_label: float


class Worker:
    """What a trial reports, when, and the records it leaves in the store."""

    def __init__(self, cluster: Cluster, plan: TrialPlan) -> None:
        self.cluster, self.plan = cluster, plan
        self.pace = cluster.chance.uniform(0.8, 1.2)
        self.reports = self._reports()

    @property
    def seconds(self) -> float:
        """What the trial takes on its slot."""
        return (self.cluster.durations.epoch * self.plan.train.config.train.epochs + self._rest()) * self.pace

    def train(self) -> tuple[float, dict[str, Any]]:
        """Seconds until the next report, and the report."""
        return next(self.reports)

    def _reports(self) -> Iterator[tuple[float, dict[str, Any]]]:
        durations, epochs = self.cluster.durations, self.plan.train.config.train.epochs
        rows: list[dict[str, float]] = []
        for epoch in range(1, epochs + 1):
            rows.append({"epoch": float(epoch), "lr": 1e-4, "train/loss": 1.0 / epoch, "val/map": epoch / epochs})
            yield durations.epoch * self.pace, self._report(rows[-1])
        self.cluster.keep(self.plan.train, durations.epoch * epochs, rows, **{"val/map": 1.0})
        score = self.cluster.chance.random()
        for stage in self._after_training():
            metrics = {"pseudo/miou": score, "cam/miou": score / 2} if stage.name == "pseudo_label" else {}
            self.cluster.keep(stage, getattr(durations, stage.name), [], **metrics)
        yield self._rest() * self.pace, self._report({**rows[-1], "pseudo/miou": score, "complete": 1.0})
        yield 0.0, {RESULT_DUPLICATE: True, "done": True}

    def _after_training(self) -> list[Stage]:
        stages = [stage for variant in self.plan.variants for stage in variant.stages.all()]
        return list({stage.key: stage for stage in stages}.values())

    def _rest(self) -> float:
        return float(sum(getattr(self.cluster.durations, stage.name) for stage in self._after_training()))

    def _report(self, row: dict[str, float]) -> dict[str, Any]:
        """With what Tune adds to every report."""
        now = self.cluster.clock.now()
        return {
            **row, "done": False, "training_iteration": int(row["epoch"]), "time_this_iter_s": 1.0, "time_total_s": 1.0,
            "time_since_restore": 1.0, "iterations_since_restore": 1, "timestamp": int(now), "pid": 1,
            "date": "2026-01-01_00-00-00", "hostname": "gpu-1", "node_ip": "10.0.0.1", "should_checkpoint": False,
            "config": dict(self.plan.values),
        }  # fmt: skip


class Cluster:
    """Slots, the workers on them, and the events to come."""

    def __init__(
        self, slots: int, planner: Planner, store: ArtifactStore, durations: Durations, clock: Clock, seed: int = 0
    ) -> None:
        self.slots, self.planner, self.store, self.durations = slots, planner, store, durations
        self.clock, self.chance = clock, random.Random(seed)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.busy: dict[str, Heartbeat] = {}
        """Trials at work; all give signs of life."""
        self.trials: list[float] = []
        """Seconds of each, in the order they were begun."""
        self.last_end = 0.0
        self.files = self._files()

    def at(self, moment: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.events, (moment, next(self.order), happens))

    def shortest(self) -> float:
        """Seconds the trials take if whoever gives them out needs no time at all."""
        free = [ACTOR_START_S] * self.slots
        for number, seconds in enumerate(self.trials):
            heapq.heapreplace(free, free[0] + seconds + (RESET_S if number >= self.slots else 0.0))
        return max(free)

    def keep(self, stage: Stage, seconds: float, rows: list[dict[str, float]], **metrics: float) -> None:
        """A record as a worker writes it; all artifacts have the same few files."""
        record = dataclasses.replace(
            self.files, key=stage.key, stage=stage.name, metrics=metrics, history=rows, seconds=seconds,
            inputs={name: parent.key for name, parent in stage.inputs.items()},
            created=datetime.fromtimestamp(self.clock.now(), UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        self.store.storage.create(record_name(stage.key), record.to_json().encode())

    def _files(self) -> ArtifactRecord:
        """Published once: a curve and an overlay, which the driver copies to the tracker."""
        folder = self.store.staging()
        (folder / OVERLAYS_FOLDER).mkdir()
        Image.effect_noise((96, 96), 64).save(folder / OVERLAYS_FOLDER / "1.png")
        curve = {"thresholds": [number / 60 for number in range(60)], "curve": [0.4] * 60}
        (folder / "curve.json").write_text(json.dumps({"refined": curve, "unrefined": curve}), encoding="utf-8")
        key = "pseudo_label-0000000000000000"
        empty = ArtifactRecord(
            key=key, stage="pseudo_label", version=1, config={}, fingerprints={}, inputs={}, metrics={}, history=[],
            seconds=1.0, created="2026-01-01T00:00:00+00:00", code="simulated", host="simulated", versions={},
        )  # fmt: skip
        record = self.store.put(key, folder, empty)
        self.store.discard(key)
        return record


class Actors:
    """In the place of ``ray.air.execution._internal.RayActorManager``, as far as Tune's controller uses it."""

    cluster: Cluster

    def __init__(self, resource_manager: object) -> None:
        self.waiting: deque[TrackedActor] = deque()
        self.starting: set[TrackedActor] = set()
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[_Handle, None]] = {}
        self.workers: dict[TrackedActor, Worker] = {}

    def next(self, timeout: float | None = None) -> bool:
        """One event, if there is one within a second: Tune asks ten times as often."""
        cluster = self.cluster
        if not cluster.events or cluster.events[0][0] > cluster.clock.now() + 1.0:
            cluster.clock.skip_to(cluster.clock.now() + 1.0)
            return False
        moment, _, happens = heapq.heappop(cluster.events)
        cluster.clock.skip_to(moment)
        happens()
        return True

    def add_actor(self, cls: object, kwargs: dict[str, Any], resource_request: object, **told: Any) -> TrackedActor:
        actor = TrackedActor(uuid.uuid4().int, **told)
        actor.config = kwargs["config"]
        self.waiting.append(actor)
        self._start()
        return actor

    def _start(self) -> None:
        while self.waiting and len(self.starting) + self.num_live_actors < self.cluster.slots:
            actor = self.waiting.popleft()
            self.starting.add(actor)
            self.cluster.at(self.cluster.clock.now() + ACTOR_START_S, functools.partial(self._started, actor))

    def _started(self, actor: TrackedActor) -> None:
        if actor not in self.starting:  # removed meanwhile
            return
        self.starting.remove(actor)
        self._live_actors_to_ray_actors_resources[actor] = _Handle(), None
        self._take_up(actor, actor.config)
        actor._on_start(actor)

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        on_result: Callable[..., None] | None = None,
        **others: Any,
    ) -> object:
        clock = self.cluster.clock
        seconds = 0.0
        result: dict[str, Any] | bool | None = None
        if method_name == "train":
            with clock.leaving_out():
                seconds, result = self.workers[tracked_actor].train()
        elif method_name == "reset":
            self._take_up(tracked_actor, args[0])
            seconds, result = RESET_S, True
        if on_result is not None:
            self.cluster.at(clock.now() + seconds, lambda: on_result(tracked_actor, result))
        return object()

    def _take_up(self, actor: TrackedActor, config: dict[str, Any]) -> None:
        cluster = self.cluster
        with cluster.clock.leaving_out():
            plan = cluster.planner.trial(config["values"], config["seed"])
            self.workers[actor] = Worker(cluster, plan)
            cluster.trials.append(self.workers[actor].seconds)
            cluster.busy[plan.key] = Heartbeat("node", "process", 1.0)

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        """Tune calls it when a trial ends."""
        worker = self.workers.pop(tracked_actor, None)
        if worker is not None:
            self.cluster.busy.pop(worker.plan.key, None)
            self.cluster.last_end = self.cluster.clock.now()

    def remove_actor(self, tracked_actor: TrackedActor, kill: bool = False, stop_future: object = None) -> bool:
        was_there = self._live_actors_to_ray_actors_resources.pop(tracked_actor, None) is not None
        self.starting.discard(tracked_actor)
        with contextlib.suppress(ValueError):
            self.waiting.remove(tracked_actor)
        if was_there and tracked_actor._on_stop:
            tracked_actor._on_stop(tracked_actor)
        self._start()
        return was_there

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        return False

    @property
    def num_live_actors(self) -> int:
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_pending_actors(self) -> int:
        return len(self.waiting) + len(self.starting)

    @property
    def num_total_actors(self) -> int:
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        return len(self.workers)

    def get_live_actors_resources(self) -> dict[str, float]:
        return {}

    def cleanup(self) -> None:
        """Nothing runs."""


class _Handle:
    """Of an actor, as a Tune trial keeps it."""

    class _Asked:
        @staticmethod
        def remote(**options: Any) -> dict[str, Any]:
            return {}

    get_auto_filled_metrics = _Asked()
    _actor_id = None


class SimulatedChannel(WorkerChannel):
    """Everybody is alive."""

    def __init__(self, cluster: Cluster) -> None:
        self.actor, self.cluster = None, cluster

    def look(self, halted: object) -> tuple[list[Any], dict[str, Heartbeat]]:
        return [], dict(self.cluster.busy)
