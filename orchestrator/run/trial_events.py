"""The life of a trial, told by Tune or by the store, and handed on to the state, the tracker, metrics and webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.monitor.progress import ProgressDisplay
from orchestrator.monitor.state import SweepState
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.plan.planner import TrialPlan, united
from orchestrator.results.records import Records, RunRecords, stage_metrics
from orchestrator.search.stopped_trials import BY_SCHEDULER, Seen, Stopped, add_stopped, read_stopped
from orchestrator.spec.metrics import of_training
from orchestrator.spec.spec import SweepSpec
from orchestrator.tracking.prometheus import Metrics
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.webhook import Webhook
from workers.artifacts.holds import Hold
from workers.artifacts.record import ArtifactRecord
from workers.processes.masking import masked
from workers.stage import Row


@dataclass(frozen=True)
class Listeners:
    """The receivers of a sweep's events."""

    state: SweepState
    progress: ProgressDisplay
    recorder: Recorder
    metrics: Metrics
    webhook: Webhook


class TrialLife:
    """The listener of all trials of one run."""

    def __init__(
        self,
        spec: SweepSpec,
        records: RunRecords,
        told: Listeners,
        supervisor: Supervisor,
        hold: Hold,
        stopped_file: Path,
    ) -> None:
        """``stopped_file`` keeps the trials that the scheduler stopped early."""
        self.spec, self.records, self.supervisor, self.hold = spec, records, supervisor, hold
        self.state, self.progress, self.recorder = told.state, told.progress, told.recorder
        self.metrics, self.webhook = told.metrics, told.webhook
        self.stopped_file = stopped_file
        self.plans: dict[str, TrialPlan] = {}
        self.failures: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        """Key of a stage -> why it failed, and would fail again for whoever needs it."""
        self.rows: dict[str, dict[float, Row]] = {}
        """Epochs of the trials that a scheduler may stop."""
        self.interrupted_phase = ""

    def started(self, trial: TrialPlan) -> None:
        self.add(trial)
        self.recorder.trial(trial)
        if self.state.tasks[trial.key].status == "running":  # Tune begins it again: its worker was lost
            self.metrics.add("retries", kind="trial")
        self.state.update(trial.key, status="running", error=None)
        self.progress.changed(trial.key)

    def stored(self, trial: TrialPlan) -> Seen:
        """Tell of a trial that was computed before; what a scheduler knows of it is returned."""
        self.state.update(trial.key, cached=True)
        self.started(trial)
        rows = self.records.record(trial.key).history
        for row in rows:
            self.recorder.trial_row(trial, row)
        self.finished(trial)
        return Seen(trial.values, trial.seed, rows)

    def row(self, trial: TrialPlan, row: Row) -> None:
        self.state.row(trial.key, row)
        self.recorder.trial_row(trial, row)
        if self.spec.scheduler is not None and "epoch" in row:
            self.rows.setdefault(trial.key, {})[row["epoch"]] = row
        if row.get("epoch", 0) >= trial.train.config.train.warmup:  # earlier rows are the shared warm-up's
            self.progress.changed(trial.key)

    def finished(self, trial: TrialPlan, handed: Sequence[ArtifactRecord] = ()) -> None:
        """``handed``: records of its stages that the worker has read, and the driver need not read again."""
        self.rows.pop(trial.key, None)
        self.failures.pop(trial.key, None)  # a search may have tried it again, after nodes fell silent
        self.records.take(handed)
        records = self.records
        self._note_best(trial, records)
        self.state.update(trial.key, status="done")
        self.recorder.trial_done(self._with_merged(trial), records)
        self.metrics.finished(trial, records, self.spec.resources.trial)
        self.progress.changed(trial.key)

    def stopped_early(self, trial: TrialPlan, reason: str) -> None:
        if all(self.records.has(stage.key) for stage in trial.stages()):  # finished earlier, and told so again
            self.finished(trial)
            return
        self.state.update(trial.key, status="stopped", error=reason)
        rows = self.rows.pop(trial.key, {})
        if reason == BY_SCHEDULER and self.spec.scheduler is not None:
            add_stopped(self.stopped_file, self.spec.scheduler, trial.key, [rows[epoch] for epoch in sorted(rows)])
        self.recorder.trial_ended(trial, "KILLED", reason)
        self.progress.changed(trial.key)

    def failed(self, trial: TrialPlan, error: str, stage: str | None = None) -> None:
        """``stage``: key of the one of its own that failed, where another try would fail too."""
        self.add(trial)
        error = masked(error)
        if stage is not None:
            self.broken[stage] = error
        self.failures[trial.key] = error
        self.metrics.add("failures", kind="trial")
        self.state.update(trial.key, status="failed", error=error)
        self.recorder.trial_ended(trial, "FAILED", error)
        self.progress.changed(trial.key)
        self.webhook.tell("failed", f"{trial.title} failed: {error}", self.state.counts())

    def fails_at_once(self, trial: TrialPlan) -> bool:
        """True, and told, where a stage that its training needs has failed: it would fail there again, unless it is
        trained already."""
        lacking = next((stage.key for stage in trial.train.ancestry() if stage.key in self.broken), None)
        if lacking is None or self.records.has(trial.key):
            return False
        self.supervisor.count_failure()
        self.failed(trial, self.broken[lacking] if lacking == trial.key else f"its input {lacking} failed")
        return True

    def stages_failed(self, errors: Mapping[str, str]) -> None:
        """Of stages that were run by themselves, by their keys."""
        told = {key: masked(why) for key, why in errors.items()}
        self.failures |= told
        self.broken |= told

    def waits(self, trial: TrialPlan, status: str, reason: str | None) -> None:
        self.state.update(trial.key, status=status, error=reason)
        self.progress.changed(trial.key)

    def again(self, trial: TrialPlan, reason: str) -> None:
        """Its worker was lost, or its machine had a fault; Tune begins it once more."""
        self.progress.line(f"{trial.title} is tried again: {reason} (log: {self.progress.log_file(trial.key)})")

    def stalled(self, key: str) -> None:
        minutes = self.spec.limits.stalled_minutes
        self.progress.line(f"{key} shows no sign of work for {minutes:g} min; its worker is killed")
        self.webhook.tell("stalled", f"{key} stalled", self.state.counts())

    def short(self, missing: str | None) -> None:
        """Show missing resources as the phase, so that ``status`` tells them; None: they are there now."""
        if missing is None:
            self.progress.phase(self.interrupted_phase)
            return
        self.interrupted_phase = self.state.phase
        self.progress.phase(f"{self.state.phase}, {missing}")
        self.webhook.tell("stalled", missing, self.state.counts())

    def add(self, trial: TrialPlan) -> None:
        known = self.plans.get(trial.key)
        if known is not None and trial.values not in (known.values, *known.merged):
            trial = united(known, trial)  # another point of a search with the same training
        if known is None or len(trial.variants) >= len(known.variants):
            self.plans[trial.key] = trial
            self.hold.add(stage.key for stage in trial.stages())
        self.state.add(trial.key, trial.title, "trial", trial.train.config.train.epochs)

    def stopped(self) -> Stopped:
        """The trials that a scheduler stopped early, in this run or an earlier one."""
        return read_stopped(self.stopped_file)

    def seen_stopped(self) -> list[Seen]:
        """Those of them that this run knows, for another scheduler to compare with."""
        early = self.stopped().by(self.spec.scheduler)
        return [Seen(plan.values, plan.seed, early[key]) for key, plan in self.plans.items() if key in early]

    def _with_merged(self, trial: TrialPlan) -> TrialPlan:
        """With the variants of other points that are the same training, once all of them are there."""
        known = self.plans.get(trial.key, trial)
        more = len(known.variants) > len(trial.variants) and all(self.records.has(one.key) for one in known.stages())
        return known if more else trial

    def _note_best(self, trial: TrialPlan, records: Records) -> None:
        metric = self.spec.ranked_by.metric
        best = self.spec.ranked_by.best(stage_metrics(variant.stages.all(), records) for variant in trial.variants)
        trained = records.record(trial.key).metrics
        shown = {name: trained[name] for name in of_training() if name in trained}
        self.state.tasks[trial.key].metrics |= shown | ({metric: best[metric]} if best else {})
