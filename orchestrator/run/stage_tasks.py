"""Stages as Ray tasks: the shared prelude before the trials, the segmentation jobs after them.

Ray alone does not answer for a task on a node that fell silent without dying, so the store and the workers' signs of
life are asked too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from aream.errors import AreamError, Interrupted, StageHeld, StoreUnavailable
from orchestrator.cluster import connection
from orchestrator.cluster.lost_workers import why, worth_another_try
from orchestrator.cluster.node_images import NodeStore
from orchestrator.cluster.shortage import Shortage
from orchestrator.cluster.stage_runner import stage_runner
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.monitor.tasks import COMPUTED_ELSEWHERE
from orchestrator.run.channel import EVERYTHING, Heartbeat, WorkerChannel, WorkerEnd, kill_worker
from orchestrator.run.lease_watch import LeaseWatch
from orchestrator.spec.settings import Limits, Resource
from orchestrator.workspace import Workspace
from workers.failures import may_pass, told
from workers.stage import Row, Stage

log = logging.getLogger(__name__)

POLL_S = 1.0
SILENT_S = 60.0
"""A worker silent for so long may have ended without Ray saying so: its result is looked for in the store."""


@dataclass(frozen=True)
class TaskEvent:
    """A change of a stage: its new status, a row of metrics while it runs, or why it failed."""

    stage: Stage
    status: str
    row: Row | None = None
    error: str | None = None


@dataclass
class _Attempt:
    stage: Stage
    asked: float
    begun: bool = False
    """True once a worker runs it; Ray does not tell of a task that waits for a slot."""
    cancelled: bool = False

    def sign(self, signs: Mapping[str, Heartbeat]) -> Heartbeat | None:
        """The last sign of its own worker; an older one is that of a worker that was lost."""
        found = signs.get(self.stage.key)
        return None if found is None or found.silent_s > time.monotonic() - self.asked else found


@ray.remote
def run_stage_task(
    stages: Sequence[Stage], workspace: Workspace, cpu: float, gpu: float, channel: Any
) -> dict[str, Any]:
    """Run one stage, or those that share a pass, and whatever they need that is not stored yet; returns why it did not,
    if it did not."""
    key, keys = stages[0].key, {stage.key for stage in stages}
    try:
        with workspace.logged(key), WorkerEnd(channel, key) as line:
            runner = stage_runner(
                workspace,
                cpu=cpu,
                gpu=gpu,
                report=lambda stage, row: line.post(row, stage.key if stage.key in keys else key),
                stop=line.stop,
                images=NodeStore(line.images_actor),
            )
            for _ in runner.run_all(stages):
                pass
    except StageHeld as error:
        return {COMPUTED_ELSEWHERE: error.key}
    except Interrupted:
        return {"paused": True}
    except StoreUnavailable as error:
        return {"away": str(error)}
    except Exception as error:
        if may_pass(error) or isinstance(error, ray.exceptions.RayError):
            raise
        if not isinstance(error, AreamError):
            return {"failure": told(error)}
        if len(keys) > 1:  # each goes on by itself, and what it meets there is told
            log.warning("%s; others of its pass are stored", error)
            return {}
        return {"failure": str(error)}
    return {}


class StageTasks:
    """Runs stages, each after those of its inputs that are in the list."""

    def __init__(
        self,
        stages: Sequence[Stage],
        workspace: Workspace,
        resource: Resource,
        limits: Limits,
        supervisor: Supervisor,
        on_event: Callable[[TaskEvent], None],
        on_stalled: Callable[[str], None],
        on_short: Callable[[str | None], None],
        channel: WorkerChannel,
        beside: Mapping[str, Sequence[Stage]] | None = None,
    ) -> None:
        """``beside``: of a stage's key, others that its task runs in the same pass; rows are told of each, everything
        else of the first."""
        self.beside = beside or {}
        self.by_key = {stage.key: stage for stage in stages}
        self.tell = self.by_key | {stage.key: stage for others in self.beside.values() for stage in others}
        self.waiting = dict(self.by_key)
        self.workspace, self.resource, self.limits = workspace, resource, limits
        self.supervisor, self.on_event, self.on_stalled = supervisor, on_event, on_stalled
        self.store = workspace.store()
        self.watch = LeaseWatch(self.store)
        self.elsewhere: dict[str, str] = {}
        """Key of a stage -> key of the one it needs that another process computes."""
        self.running: dict[ray.ObjectRef, _Attempt] = {}
        self.lost: dict[str, int] = {}
        self.errors: dict[str, str] = {}
        self.channel = channel
        self.shortage = Shortage(resource, connection.free, on_short)

    def run(self) -> dict[str, str]:
        """Returns key -> error of those that failed; what was stopped before its end is in neither list.

        A stage whose input failed is not started and counts as failed with that reason.
        """
        while self.running or not self._over():
            begun = [attempt.stage.key for attempt in self.running.values() if attempt.begun]
            self.supervisor.tick(dict.fromkeys(begun, self.resource.gpus))
            if self.supervisor.ending is None and not self.supervisor.paused:
                self._submit()
            self._collect()
        return self.errors

    def _over(self) -> bool:
        return self.supervisor.ending is not None or not (self.waiting or self.elsewhere)

    def _submit(self) -> None:
        for key, awaited in list(self.elsewhere.items()):
            if self.watch.free(awaited):
                del self.elsewhere[key]
                self.waiting[key] = self.by_key[key]
        for stage in [stage for stage in self.waiting.values() if self._ready(stage)]:
            del self.waiting[stage.key]
            failed = next((key for key in _inputs(stage) if key in self.errors), None)
            if failed is not None:
                self._fail(stage, f"its input {failed} failed")
                continue
            options = run_stage_task.options(
                num_cpus=self.resource.cpu,
                num_gpus=self.resource.gpus,
                resources=dict(self.resource.custom),
                name=stage.key,
                max_retries=0,
            )
            pass_ = [stage, *self.beside.get(stage.key, ())]
            task = options.remote(pass_, self.workspace, self.resource.cpu, self.resource.gpus, self.channel.actor)
            self.running[task] = _Attempt(stage, time.monotonic())

    def _collect(self) -> None:
        if self.running:
            done, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
        else:
            time.sleep(POLL_S)
            done = []
        stop = self.supervisor.ending is not None or self.supervisor.paused
        if stop:
            self._cancel_what_waits()
        rows, signs = self.channel.look([EVERYTHING] if stop else [])
        for attempt in self.running.values():
            if signs is not None and attempt.sign(signs) is not None:
                self._begun(attempt)
        for key, row in rows:
            if key in self.tell:
                self.on_event(TaskEvent(self.tell[key], "running", row=row))
        for task in done:
            attempt = self.running.pop(task)
            if not attempt.cancelled:
                self._begun(attempt)
            self._ended(task, attempt.stage)
        if signs is not None:
            self._reconcile(signs)
            begun = any(attempt.begun for attempt in self.running.values())
            self.shortage.look(wanted=bool(self.running), running=begun)

    def _cancel_what_waits(self) -> None:
        """Cancel tasks without a worker: they might wait for ever, and cannot read that they are to stop."""
        for task, attempt in self.running.items():
            if not (attempt.begun or attempt.cancelled):
                attempt.cancelled = True
                ray.cancel(task)

    def _begun(self, attempt: _Attempt) -> None:
        if not attempt.begun:
            attempt.begun = True
            self.on_event(TaskEvent(attempt.stage, "running"))

    def _ended(self, task: ray.ObjectRef, stage: Stage) -> None:
        try:
            outcome = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            self.waiting[stage.key] = stage
            self.on_event(TaskEvent(stage, "paused"))
        except ray.exceptions.RayError as error:
            if worth_another_try(error):
                self._again(stage, why(error))
            else:
                self._fail(stage, why(error))
        else:
            if outcome.get("failure"):
                self._fail(stage, outcome["failure"])
            elif awaited := outcome.get(COMPUTED_ELSEWHERE):
                self.elsewhere[stage.key] = awaited
                reason = f"{awaited} is being computed by {self.watch.holder(awaited)}"
                self.on_event(TaskEvent(stage, COMPUTED_ELSEWHERE, error=reason))
            elif outcome.get("away"):
                self.waiting[stage.key] = stage
                self.supervisor.store_away(outcome["away"])
                self.on_event(TaskEvent(stage, "paused", error=outcome["away"]))
            elif outcome.get("paused"):
                self.waiting[stage.key] = stage
                self.on_event(TaskEvent(stage, "paused"))
            else:
                self.on_event(TaskEvent(stage, "done"))

    def _reconcile(self, signs: dict[str, Heartbeat]) -> None:
        """Believe the store before Ray; kill, or give up, what shows no sign of life."""
        for task, attempt in list(self.running.items()):
            sign = attempt.sign(signs)
            silent = sign.silent_s if sign is not None else time.monotonic() - attempt.asked
            if silent < SILENT_S:
                continue
            if sign is not None and self.watch.free(attempt.stage.key) and self.store.has(attempt.stage.key):
                del self.running[task]
                self.on_event(TaskEvent(attempt.stage, "done"))
            elif silent >= self.limits.stalled_minutes * 60:
                del self.running[task]
                if sign is None:  # it waits for a slot that others have, or its worker hangs before its first line
                    ray.cancel(task, force=True)
                    self.waiting[attempt.stage.key] = attempt.stage
                    continue
                self.on_stalled(attempt.stage.key)
                if not kill_worker(sign):
                    ray.cancel(task, force=True)
                self._again(attempt.stage, f"no sign of life for {silent:.0f} s")

    def _again(self, stage: Stage, reason: str) -> None:
        tries = self.lost[stage.key] = self.lost.get(stage.key, 0) + 1
        if tries > self.limits.retries:
            often = f"failed {tries} times; the last time: " if tries > 1 else ""
            self._fail(stage, f"{often}{reason}")
            return
        self.waiting[stage.key] = stage
        count = f"try {tries + 1} of {self.limits.retries + 1}"
        self.on_event(TaskEvent(stage, "waiting", error=f"{reason}; {count} follows"))

    def _fail(self, stage: Stage, reason: str) -> None:
        self.errors[stage.key] = reason
        if stage.key not in self.beside:  # each of a pass is tried again by itself, and fails or not
            self.supervisor.count_failure()
        self.on_event(TaskEvent(stage, "failed", error=reason))

    def _ready(self, stage: Stage) -> bool:
        unfinished = {*self.waiting, *self.elsewhere, *(attempt.stage.key for attempt in self.running.values())}
        return not any(key in unfinished for key in _inputs(stage))


def _inputs(stage: Stage) -> list[str]:
    return [ancestor.key for ancestor in stage.ancestry() if ancestor.key != stage.key]
