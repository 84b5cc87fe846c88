"""Translate events of Ray Tune's trials into ours, and let the driver act between Tune's steps."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial

from orchestrator.cluster import connection
from orchestrator.cluster.lost_workers import why_trial
from orchestrator.cluster.shortage import Shortage
from orchestrator.monitor.supervisor import TICK_S, Supervisor
from orchestrator.monitor.tasks import COMPUTED_ELSEWHERE
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.run.channel import EVERYTHING, WorkerChannel, kill_worker
from orchestrator.run.lease_watch import LeaseWatch
from orchestrator.run.requeue import DeferredError
from orchestrator.search.searchers import planned
from orchestrator.search.stopped_trials import BY_HAND, BY_SCHEDULER, Seen
from workers.artifacts.record import ArtifactRecord
from workers.stage import Row

log = logging.getLogger(__name__)

RECORDS = "records"
"""Key of a trial's last result: records of its stages, as JSON, since Tune flattens nested values."""
FAILED_STAGE = "failed_stage"
"""Key of a trial's last result: that of the stage which failed, of this trial or of several."""
KILL_S = 120.0
"""A stalled worker that is still there so long after it was killed is on a node that Ray has not given up yet."""


class TrialListener(Protocol):
    """Receives the events of trials; all calls come from one thread."""

    def started(self, trial: TrialPlan) -> None: ...
    def row(self, trial: TrialPlan, row: Row) -> None: ...
    def finished(self, trial: TrialPlan, handed: Sequence[ArtifactRecord]) -> None: ...
    def stopped_early(self, trial: TrialPlan, reason: str) -> None: ...
    def failed(self, trial: TrialPlan, error: str, stage: str | None = None) -> None: ...
    def fails_at_once(self, trial: TrialPlan) -> bool: ...
    def seen_stopped(self) -> Sequence[Seen]: ...
    def waits(self, trial: TrialPlan, status: str, reason: str | None) -> None: ...
    def again(self, trial: TrialPlan, reason: str) -> None: ...
    def stalled(self, key: str) -> None: ...
    def short(self, missing: str | None) -> None: ...


class NodeUnreachable(Exception):
    """A node fell silent with a trial on it: the trials that are left start anew, from their checkpoints."""


class Listening(tune.Callback):
    """Translates Tune's trials into ours, and lets the driver look around between its steps."""

    def __init__(
        self,
        planner: Planner,
        listener: TrialListener,
        supervisor: Supervisor,
        channel: WorkerChannel,
        watch: LeaseWatch,
        problem: DeferredError,
        over: dict[str, str],
    ) -> None:
        """
        Args:
            problem: keeps what goes wrong in ``listener``.
            over: is given the keys of trials that ended without a result, and how: ``failed`` or ``stopped``.
        """
        self.planner, self.listener, self.supervisor, self.channel, self.watch = (
            planner,
            listener,
            supervisor,
            channel,
            watch,
        )
        self.problem, self.over = problem, over
        self.plans: dict[str, TrialPlan] = {}
        self.running: dict[str, float] = {}
        self.begun: dict[str, float] = {}
        self.killed: dict[str, float] = {}
        self.shortage = Shortage(planner.spec.resources.trial, connection.free, listener.short)
        self.counted = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores its callbacks beside the trials, for a restore of its own that is not used here."""
        return {}

    def plan(self, trial: Trial) -> TrialPlan:
        if trial.trial_id not in self.plans:
            self.plans[trial.trial_id] = planned(self.planner, trial.config)
        return self.plans[trial.trial_id]

    def _last_plan(self, trial: Trial) -> TrialPlan:
        plan = self.plan(trial)
        del self.plans[trial.trial_id]
        if all(other.key != plan.key for other in self.plans.values()):  # two points of a search may be one training
            for known in (self.running, self.begun, self.killed):
                known.pop(plan.key, None)
        # Averages of every metric, for an analysis of Tune's that nobody asks for: most of what an ended trial holds.
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()
        # Where and as which process it ran: a reference whose object Ray keeps, and nobody asks for any more.
        trial._default_result_or_future = None
        return plan

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.look()
        if time.monotonic() - self.counted >= TICK_S:
            self.counted = time.monotonic()
            self.shortage.look(
                wanted=any(trial.status == Trial.PENDING for trial in trials), running=bool(self.running)
            )

    def look(self) -> None:
        """Orders and budgets, what the channel knows, stalled workers; at most once a second.

        Raises:
            NodeUnreachable: a stalled worker's node does not answer.
            Exception: what went wrong in the listener since.
        """
        self.problem.raise_pending()
        if not self.supervisor.tick(self.running):
            return
        _, signs = self.channel.look(self._halted())
        if signs is None:
            return
        now, patience = time.monotonic(), self.supervisor.limits.stalled_minutes * 60
        for key in list(self.running):
            sign = signs.get(key)
            if key in self.killed:
                if now - self.killed[key] > KILL_S:
                    raise NodeUnreachable(key)
            elif now - self.begun[key] >= patience and (sign is None or sign.silent_s >= patience):
                self.listener.stalled(key)
                self.killed[key] = now
                if sign is None or not kill_worker(sign):
                    log.warning("%s: its worker cannot be reached", key)

    def _halted(self) -> list[str]:
        if self.supervisor.ending is not None or self.supervisor.paused:
            return [EVERYTHING]
        return [key for key in self.running if self.supervisor.desired_state(key) != "run"]

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        plan = self.plan(trial)
        self.running[plan.key] = self.planner.spec.resources.trial.gpus
        self.begun[plan.key] = time.monotonic()
        self.killed.pop(plan.key, None)
        with self.problem.capture():
            self.listener.started(plan)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("complete") or result.get("failure") or result.get(COMPUTED_ELSEWHERE):
            return
        row = {name: float(value) for name, value in result.items() if "/" in name or name in ("epoch", "lr")}
        if row:
            with self.problem.capture():
                self.listener.row(self.plan(trial), row)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        plan = self._last_plan(trial)
        with self.problem.capture():
            self._ended(plan, trial.last_result)

    def _ended(self, plan: TrialPlan, last: dict[str, Any]) -> None:
        if last.get("failure"):
            self._failed(plan, last["failure"], last.get(FAILED_STAGE))
        elif last.get("complete"):
            handed = json.loads(last.pop(RECORDS, "[]"))  # no longer kept by Tune
            self.listener.finished(plan, [ArtifactRecord(**record) for record in handed])
        elif awaited := last.get(COMPUTED_ELSEWHERE):
            reason = f"{awaited} is being computed by {self.watch.holder(awaited)}"
            self.listener.waits(plan, COMPUTED_ELSEWHERE, reason)
        elif last.get("away"):
            self.supervisor.store_away(last["away"])
            self.listener.waits(plan, "paused", last["away"])
        elif last.get("paused"):
            if self.supervisor.desired_state(plan.key) == "stop":
                self._stopped(plan, BY_HAND)
            else:
                self.listener.waits(plan, "paused", None)
        else:
            self._stopped(plan, BY_HAND if self.supervisor.desired_state(plan.key) == "stop" else BY_SCHEDULER)

    def _stopped(self, plan: TrialPlan, reason: str) -> None:
        self.over[plan.key] = "stopped"
        self.listener.stopped_early(plan, reason)

    def _failed(self, plan: TrialPlan, reason: str, stage: str | None = None) -> None:
        self.over[plan.key] = "failed"
        self.supervisor.count_failure()
        self.listener.failed(plan, reason, stage)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        tries, allowed = trial.run_metadata.num_failures + 1, trial.max_failures + 1
        with self.problem.capture():
            self.listener.again(self.plan(trial), f"{why_trial(trial)}; try {tries} of {allowed} follows")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        plan, tries = self._last_plan(trial), trial.run_metadata.num_failures
        with self.problem.capture():
            often = f"failed {tries} times; the last time: " if tries > 1 else ""
            self._failed(plan, f"{often}{why_trial(trial)}")
