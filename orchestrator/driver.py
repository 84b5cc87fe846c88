"""Running a sweep: plan, shared stages, trials, ranking, segmentation, report. Running it again is resuming it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.auto_gpus import AutoGpus
from orchestrator.downstream import SegmentationJob, segmentation_jobs
from orchestrator.forecast import ENDED, expected_tasks
from orchestrator.metrics import Metrics
from orchestrator.notify import Webhook
from orchestrator.overseer import Overseer
from orchestrator.plan import Planner, TrialPlan, shared_stages
from orchestrator.progress import Progress
from orchestrator.ranking import Ranked, rank
from orchestrator.recording import SWEEP, Recorder, trial_run
from orchestrator.records import Records, RememberedRecords
from orchestrator.settings import Resource
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState, replace_text
from orchestrator.summary import Summary, write_summary
from orchestrator.sweep_folder import sweep_id
from orchestrator.tracking import Tracker
from orchestrator.workplace import Workplace
from workers.artifacts.collection import tidy
from workers.artifacts.holds import Hold
from workers.stage import Row, Stage

if TYPE_CHECKING:
    from orchestrator.board import Board

TRACKING_CLOSE_S = 30.0


@dataclass
class Outcome:
    """How a run ended."""

    ranking: list[Ranked]
    failures: dict[str, str] = field(default_factory=dict)
    """Key -> reason."""
    untracked: int = 0
    """Tracking events kept for the next run because the server is away."""
    ended: str | None = None
    """Why the sweep ended before its work was done."""


class Driver:
    """One run of a sweep. Also the listener of its trials."""

    def __init__(
        self,
        planner: Planner,
        workplace: Workplace,
        tracker: Tracker,
        start_ray: Callable[[], Board],
        reads: Collection[str] = (),
    ) -> None:
        """``reads``: keys of artifacts in the place of data or weights, which nobody may collect meanwhile."""
        self.planner, self.workplace, self.start_ray, self.reads = planner, workplace, start_ray, reads
        self.spec, self.store = planner.spec, workplace.store()
        self.state = SweepState(workplace.state_file, self.spec.name, expected=expected_tasks(self.spec))
        self.progress = Progress(self.state, self.spec.rank.metric)
        self.tracker = tracker
        self.recorder = Recorder(tracker, self.spec, planner.fingerprints, self.store, workplace.folder)
        self.trials: dict[str, TrialPlan] = {}
        self.failures: dict[str, str] = {}
        self.interrupted_phase = ""
        self.stopped_file = workplace.folder / "stopped.json"
        self.overseer = Overseer(workplace.orders_file, workplace.folder / "spent.json", self.spec.limits)
        self.overseer.each_tick = self._tick
        self.metrics = Metrics(self.state, tracker.spool.left)
        self.auto = AutoGpus(workplace, self.overseer, self.progress, self._board)
        self.webhook = Webhook(self.spec.name, self.spec.notify)
        self.hold = Hold(self.store.storage, sweep_id(workplace), self.spec.name)

    def run(self) -> Outcome:
        with self.progress, self.hold:
            self.hold.add(self.reads)
            self.recorder.open_sweep()
            listed = [] if self.spec.search else self.planner.grid()
            for trial in listed:
                self._add_trial(trial)
            self.hold.save()
            self._prelude(listed or self.planner.corners())
            self._run_trials(listed)
            self._adopt(self.auto.remembered(self.spec, "trial"))
            self.progress.phase("ranking")
            trials, wanted = list(self.trials.values()), self.spec.rank
            ranking = rank(trials, self.store, wanted.metric, wanted.mode, self.spec.resources.trial)
            jobs = self._segmentation(ranking)
            self.progress.phase("writing the report")
            fingerprints = self.planner.fingerprints
            summary = Summary(self.spec, ranking, jobs, self.failures, fingerprints, self.state, self.auto.why)
            files = write_summary(summary, self.workplace, self.store)
            self._close(summary, files)
            self.overseer.save()
            tidy(self.store)
            ended = self.overseer.ending
            self.progress.phase(f"stopped ({ended})" if ended else "finished")
        text = f"ended before its time: {ended}" if ended else f"finished, {len(self.failures)} failed"
        self.webhook.tell("stopped" if ended else "done", text, self.state.counts())
        left = self.tracker.close(TRACKING_CLOSE_S)
        self.webhook.close()
        return Outcome(ranking, self.failures, left, ended)

    def abandon(self, phase: str, status: str) -> None:
        """Leave a state that tells how it ended, and what the tracker has not sent in its spool."""
        self.state.phase = phase
        for task in self.state.tasks.values():
            if task.status == "running":
                task.status = "waiting"
        self.state.save()
        self.overseer.save()
        self.webhook.tell("stopped", phase, self.state.counts())
        self.tracker.end_run(SWEEP, status)
        self.tracker.close(TRACKING_CLOSE_S / 3)
        self.webhook.close()

    # The life of a trial, told by Tune or by the store.

    def started(self, trial: TrialPlan) -> None:
        self._add_trial(trial)
        self.recorder.trial(trial)
        if self.state.tasks[trial.key].status == "running":  # Tune begins it again: its worker was lost
            self.metrics.add("retries", kind="trial")
        self.state.update(trial.key, status="running", error=None)
        self.progress.changed(trial.key)

    def row(self, trial: TrialPlan, row: Row) -> None:
        self.state.row(trial.key, row)
        self.recorder.trial_row(trial, row)
        if row.get("epoch", 0) >= trial.train.config.train.warmup_epochs:  # earlier rows are the shared warm-up's
            self.progress.changed(trial.key)

    def finished(self, trial: TrialPlan) -> None:
        records = RememberedRecords(self.store)
        self._note_best(trial, records)
        self.state.update(trial.key, status="done")
        self.recorder.trial_done(trial, records)
        self.metrics.finished(trial, records, self.spec.resources.trial)
        self.progress.changed(trial.key)

    def stopped_early(self, trial: TrialPlan, reason: str) -> None:
        if all(self._stored(stage) for stage in trial.stages()):  # finished in an earlier run, and told so again
            self.finished(trial)
            return
        self.state.update(trial.key, status="stopped")
        if self.overseer.wish(trial.key) == "run":
            replace_text(self.stopped_file, json.dumps(sorted({*self._stopped(), trial.key})))
        self.recorder.trial_ended(trial, "KILLED", reason)
        self.progress.changed(trial.key)

    def failed(self, trial: TrialPlan, error: str) -> None:
        self._add_trial(trial)
        self.failures[trial.key] = error
        self.metrics.add("failures", kind="trial")
        self.state.update(trial.key, status="failed", error=error)
        self.recorder.trial_ended(trial, "FAILED", error)
        self.progress.changed(trial.key)
        self.webhook.tell("failed", f"{trial.title} failed: {error}", self.state.counts())

    def waits(self, trial: TrialPlan, status: str, reason: str | None) -> None:
        self.state.update(trial.key, status=status, error=reason)
        self.progress.changed(trial.key)

    def stalled(self, key: str) -> None:
        minutes = self.spec.limits.stalled_minutes
        self.progress.line(f"{key} shows no sign of work for {minutes:g} min; its worker is killed")
        self.webhook.tell("stalled", f"{key} stalled", self.state.counts())

    def short(self, missing: str | None) -> None:
        """What is waited for is shown as the phase, so that ``status`` tells it; None: it has come."""
        if missing is None:
            self.progress.phase(self.interrupted_phase)
            return
        self.interrupted_phase = self.state.phase
        self.progress.phase(f"{self.state.phase}, {missing}")
        self.webhook.tell("stalled", missing, self.state.counts())

    def _add_trial(self, trial: TrialPlan) -> None:
        known = self.trials.get(trial.key)
        if known is None or len(trial.variants) >= len(known.variants):
            self.trials[trial.key] = trial
            self.hold.add(stage.key for stage in trial.stages())
        self.state.add(trial.key, trial.title, "trial", self.spec.base.train.epochs)

    def _stopped(self) -> frozenset[str]:
        return frozenset(json.loads(self.stopped_file.read_text())) if self.stopped_file.exists() else frozenset()

    def _stored(self, stage: Stage) -> bool:
        return self.store.has(stage.key)

    def _tick(self) -> None:
        self.state.catch_up()
        self.progress.catch_up()
        self.metrics.sample()

    def _board(self) -> Board:
        board = self.start_ray()
        if where := self.metrics.send():
            self.progress.line(where)
        return board

    def _prelude(self, trials: Sequence[TrialPlan]) -> None:
        """Stages that several trials need, once; those only needed to reach stages already stored are left out."""
        open_trials = [trial for trial in trials if not all(self._stored(stage) for stage in trial.stages())]
        shared = [stage for stage in shared_stages(open_trials) if not self._stored(stage)]
        if shared:
            self.progress.phase(f"{len(shared)} stages shared by several trials")
            self._run_stages(shared, "shared stage", self.auto.whole(self.spec, "trial"))

    def _adopt(self, spec: SweepSpec) -> None:
        if spec != self.spec:
            self.spec, self.planner = spec, dataclasses.replace(self.planner, spec=spec)
            self.recorder.resolved(spec)

    def _run_trials(self, listed: Sequence[TrialPlan]) -> None:
        stopped = self._stopped() | {key for key, wish in self.overseer.orders.trials.items() if wish == "stop"}
        pending = []
        for trial in listed:
            if all(self._stored(stage) for stage in trial.stages()):
                self.state.update(trial.key, cached=True)
                self.started(trial)
                for row in self.store.record(trial.key).history:
                    self.recorder.trial_row(trial, row)
                self.finished(trial)
            elif trial.key in stopped:
                self.state.update(trial.key, status="stopped")
            else:
                pending.append(trial)
        if pending or self.spec.search:
            self._adopt(self.auto.for_trials(self.planner, pending or self.planner.corners()))
        if (not pending and not self.spec.search) or self.overseer.is_over():
            return
        self.progress.phase("trials")
        board = self._board()
        from orchestrator.tuning import (
            run_trials,  # ray.tune takes seconds to import; a finished sweep needs none
        )

        run_trials(self.planner, self.workplace, self, self.overseer, board, listed=pending, stopped=stopped)
        for trial in pending:
            if self.state.tasks[trial.key].status not in ENDED:
                if self.overseer.is_over():
                    self.state.update(trial.key, status="waiting")
                else:
                    self.failed(trial, "it did not end; run the same command again")

    def _segmentation(self, ranking: Sequence[Ranked]) -> list[SegmentationJob]:
        jobs = segmentation_jobs(self.planner, ranking)
        pending = [job for job in jobs if not self._stored(job.stage)]
        epochs = {job.stage.key: job.stage.inputs["segmenter"].config.train.epochs for job in jobs}
        for job in jobs:
            self.state.add(job.stage.key, job.title, "segmentation", epochs[job.stage.key])
            if job not in pending:
                self.state.update(job.stage.key, status="done", cached=True)
                records = RememberedRecords(self.store)
                self.metrics.stages(job.stage.ancestry(), records, self.spec.resources.segmentation)
        self.hold.add(stage.key for job in jobs for stage in job.stage.ancestry())
        self._adopt(self.auto.for_segmentation(self.spec, pending))
        if pending and not self.overseer.is_over():
            self.progress.phase(f"{len(pending)} segmentation jobs")
            self._run_stages([job.stage for job in pending], "segmentation", self.spec.resources.segmentation)
        for job in jobs:
            if self._stored(job.stage):
                record = self.store.record(job.stage.key)
                train = self.store.record(record.inputs["segmenter"])
                parent = trial_run(job.trial_key) if job.trial_key else SWEEP
                self.state.row(job.stage.key, dict(record.metrics))
                self.recorder.segmentation(job.stage, job.title, job.labels, parent, record.metrics, train.history)
        return jobs

    def _run_stages(self, stages: Sequence[Stage], kind: str, resource: Resource) -> None:
        board = self._board()
        from orchestrator.stage_tasks import StageTasks, TaskEvent  # needs ray

        for stage in stages:
            self.state.add(stage.key, stage.key, kind, _epochs(stage))

        def on_event(event: TaskEvent) -> None:
            key = event.stage.key
            if event.row is not None:
                self.state.row(key, event.row)
            elif self.state.tasks[key].status != event.status:
                self.state.update(key, status=event.status, error=event.error)
                if event.status == "done":
                    self.metrics.stages(event.stage.ancestry(), RememberedRecords(self.store), resource)
                elif event.status == "waiting":  # its worker was lost
                    self.metrics.add("retries", kind=kind)
                elif event.status == "failed":
                    self.metrics.add("failures", kind=kind)
                    self.webhook.tell("failed", f"{key} failed: {event.error}", self.state.counts())
            self.progress.changed(key)

        self.hold.save()
        tasks = StageTasks(
            stages, self.workplace, resource, self.spec.limits, self.overseer, on_event, self.stalled, self.short, board
        )
        self.failures |= tasks.run()

    def _note_best(self, trial: TrialPlan, records: Records) -> None:
        metric, pick = self.spec.rank.metric, max if self.spec.rank.mode == "max" else min
        stages = [stage for variant in trial.variants for stage in variant.stages.all()]
        results = [records.record(stage.key).metrics for stage in stages]
        found = [metrics[metric] for metrics in results if metric in metrics]
        shown = {"val/map": records.record(trial.key).metrics["val/map"]} | ({metric: pick(found)} if found else {})
        self.state.tasks[trial.key].metrics |= shown

    def _close(self, summary: Summary, files: Sequence[Path]) -> None:
        best = summary.ranking[0].metrics if summary.ranking else {}
        status = "KILLED" if self.overseer.ending else "FAILED" if self.failures else "FINISHED"
        self.recorder.close_sweep(summary.description(), files, best, status)


def _epochs(stage: Stage) -> int:
    if stage.name == "warmup":
        return int(stage.config.train.warmup_epochs)
    return int(stage.config.train.epochs) if hasattr(stage.config, "train") else 0
