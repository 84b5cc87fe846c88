"""Running a sweep: plan, shared stages, trials, ranking, segmentation, report. Running it again is resuming it."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aream.errors import AreamError
from orchestrator.downstream import SegmentationJob, segmentation_jobs
from orchestrator.plan import Planner, TrialPlan, shared_stages
from orchestrator.progress import Progress
from orchestrator.ranking import Ranked, rank
from orchestrator.recording import SWEEP, Recorder, trial_run
from orchestrator.state import SweepState, replace_text
from orchestrator.summary import Summary, write_summary
from orchestrator.tracking import Tracker
from orchestrator.workplace import Workplace
from workers.stage import Row, Stage

TRACKING_CLOSE_S = 30.0


@dataclass
class Outcome:
    """How a run ended."""

    ranking: list[Ranked]
    failures: dict[str, str] = field(default_factory=dict)
    """Key -> reason."""
    untracked: int = 0
    """Tracking events kept for the next run because the server is away."""


class Driver:
    """One run of a sweep. Also the listener of its trials."""

    def __init__(self, planner: Planner, workplace: Workplace, tracker: Tracker, start_ray: Callable[[], None]) -> None:
        self.planner, self.workplace, self.start_ray = planner, workplace, start_ray
        self.spec, self.store = planner.spec, workplace.store()
        self.state = SweepState(workplace.state_file, self.spec.name)
        self.progress = Progress(self.state, self.spec.rank.metric)
        self.tracker = tracker
        self.recorder = Recorder(tracker, self.spec, planner.fingerprints, self.store, workplace.folder)
        self.trials: dict[str, TrialPlan] = {}
        self.failures: dict[str, str] = {}
        self.stopped_file = workplace.folder / "stopped.json"

    def run(self) -> Outcome:
        with self.progress:
            self.recorder.open_sweep()
            listed = [] if self.spec.search else self.planner.grid()
            for trial in listed:
                self._add_trial(trial)
            self._prelude(listed or self.planner.corners())
            self._run_trials(listed)
            self.progress.phase("ranking")
            ranking = rank(list(self.trials.values()), self.store, self.spec.rank.metric, self.spec.rank.mode)
            jobs = self._segmentation(ranking)
            self.progress.phase("writing the report")
            summary = Summary(self.spec, ranking, jobs, self.failures, self.planner.fingerprints)
            files = write_summary(summary, self.workplace, self.store)
            self._close(summary, files)
            self.progress.phase("finished")
        left = self.tracker.close(TRACKING_CLOSE_S)
        return Outcome(ranking, self.failures, left)

    def abandon(self, phase: str, status: str) -> None:
        """Leave a state that tells how it ended, and what the tracker has not sent in its spool."""
        self.state.phase = phase
        for task in self.state.tasks.values():
            if task.status == "running":
                task.status = "waiting"
        self.state.save()
        self.tracker.end_run(SWEEP, status)
        self.tracker.close(TRACKING_CLOSE_S / 3)

    # The life of a trial, told by Tune or by the store.

    def started(self, trial: TrialPlan) -> None:
        self._add_trial(trial)
        self.recorder.trial(trial)
        self.state.update(trial.key, status="running")
        self.progress.changed(trial.key)

    def row(self, trial: TrialPlan, row: Row) -> None:
        self.state.row(trial.key, row)
        self.recorder.trial_row(trial, row)
        if row.get("epoch", 0) >= trial.train.config.train.warmup_epochs:  # earlier rows are the shared warm-up's
            self.progress.changed(trial.key)

    def finished(self, trial: TrialPlan) -> None:
        self._note_best(trial)
        self.state.update(trial.key, status="done")
        self.recorder.trial_done(trial)
        self.progress.changed(trial.key)

    def stopped_early(self, trial: TrialPlan) -> None:
        self.state.update(trial.key, status="stopped")
        replace_text(self.stopped_file, json.dumps(sorted({*self._stopped(), trial.key})))
        self.recorder.trial_ended(trial, "KILLED", "stopped early by the scheduler")
        self.progress.changed(trial.key)

    def failed(self, trial: TrialPlan, error: str) -> None:
        self._add_trial(trial)
        self.failures[trial.key] = error
        self.state.update(trial.key, status="failed", error=error)
        self.recorder.trial_ended(trial, "FAILED", error)
        self.progress.changed(trial.key)

    def _add_trial(self, trial: TrialPlan) -> None:
        known = self.trials.get(trial.key)
        if known is None or len(trial.variants) >= len(known.variants):
            self.trials[trial.key] = trial
        self.state.add(trial.key, trial.title, "trial", self.spec.base.train.epochs)

    def _stopped(self) -> frozenset[str]:
        return frozenset(json.loads(self.stopped_file.read_text())) if self.stopped_file.exists() else frozenset()

    def _stored(self, stage: Stage) -> bool:
        return self.store.has(stage.key)

    def _prelude(self, trials: Sequence[TrialPlan]) -> None:
        """Stages that several trials need, once; those only needed to reach stages already stored are left out."""
        open_trials = [trial for trial in trials if not all(self._stored(stage) for stage in trial.stages())]
        shared = [stage for stage in shared_stages(open_trials) if not self._stored(stage)]
        if shared:
            self.progress.phase(f"{len(shared)} stages shared by several trials")
            self._run_stages(shared, "shared stage", self.spec.resources.trial.cpu, self.spec.resources.trial)

    def _run_trials(self, listed: Sequence[TrialPlan]) -> None:
        stopped = self._stopped()
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
        if not pending and not self.spec.search:
            return
        self.progress.phase("trials")
        self.start_ray()
        from orchestrator.tuning import (
            run_trials,  # ray.tune takes seconds to import; a finished sweep needs none
        )

        run_trials(self.planner, self.workplace, self, listed=pending, stopped=stopped)
        for trial in pending:
            if self.state.tasks[trial.key].status in ("waiting", "running"):
                self.failed(trial, "it did not end; run the same command again")

    def _segmentation(self, ranking: Sequence[Ranked]) -> list[SegmentationJob]:
        jobs = segmentation_jobs(self.planner, ranking)
        pending = [job for job in jobs if not self._stored(job.stage)]
        epochs = {job.stage.key: job.stage.inputs["segmenter"].config.train.epochs for job in jobs}
        for job in jobs:
            self.state.add(job.stage.key, job.title, "segmentation", epochs[job.stage.key])
            if job not in pending:
                self.state.update(job.stage.key, status="done", cached=True)
        if pending:
            self.progress.phase(f"{len(pending)} segmentation jobs")
            resource = self.spec.resources.segmentation
            self._run_stages([job.stage for job in pending], "segmentation", resource.cpu, resource)
        for job in jobs:
            if self._stored(job.stage):
                record = self.store.record(job.stage.key)
                train = self.store.record(record.inputs["segmenter"])
                parent = trial_run(job.trial_key) if job.trial_key else SWEEP
                self.state.row(job.stage.key, dict(record.metrics))
                self.recorder.segmentation(job.stage, job.title, job.labels, parent, record.metrics, train.history)
        return jobs

    def _run_stages(self, stages: Sequence[Stage], kind: str, cpu: float, resource: object) -> None:
        self.start_ray()
        from orchestrator.stage_tasks import TaskEvent, run_stages  # needs ray

        for stage in stages:
            self.state.add(stage.key, stage.key, kind, _epochs(stage))

        def on_event(event: TaskEvent) -> None:
            key = event.stage.key
            if event.row is not None:
                self.state.row(key, event.row)
            elif self.state.tasks[key].status != event.status:
                self.state.update(key, status=event.status, error=event.error)
            self.progress.changed(key)

        self.failures |= run_stages(stages, self.workplace, resource, on_event)  # type: ignore[arg-type]

    def _note_best(self, trial: TrialPlan) -> None:
        metric, pick = self.spec.rank.metric, max if self.spec.rank.mode == "max" else min
        found: list[float] = []
        for variant in trial.variants:
            for stage in variant.stages.all():
                metrics = self.store.record(stage.key).metrics
                found += [metrics[metric]] if metric in metrics else []
        record = self.store.record(trial.key)
        shown = {"val/map": record.metrics["val/map"]} | ({metric: pick(found)} if found else {})
        self.state.tasks[trial.key].metrics |= shown

    def _close(self, summary: Summary, files: Sequence[Path]) -> None:
        best = summary.ranking[0].metrics if summary.ranking else {}
        status = "FAILED" if self.failures else "FINISHED"
        self.recorder.close_sweep(summary.description(), files, best, status)


def _epochs(stage: Stage) -> int:
    if stage.name == "warmup":
        return int(stage.config.train.warmup_epochs)
    return int(stage.config.train.epochs) if hasattr(stage.config, "train") else 0


def sweep_id(workplace: Workplace) -> str:
    """A name for this folder's sweep in the tracker, made once: resuming finds the same runs."""
    path = workplace.folder / "sweep_id"
    if not path.exists():
        replace_text(path, uuid.uuid4().hex)
    return path.read_text()


def forget(planner: Planner, workplace: Workplace) -> None:
    """Drop what an earlier run of this sweep left: its folder, checkpoints and artifacts."""
    store = workplace.store()
    trials = planner.corners() if planner.spec.search else planner.grid()
    for trial in trials:
        for stage in trial.stages():
            store.discard(stage.key)
            (workplace.runs / "checkpoints" / f"{stage.key}.pt").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        for child in workplace.folder.iterdir():
            if child.name != "lock":
                shutil.rmtree(child) if child.is_dir() else child.unlink()


@contextlib.contextmanager
def held(workplace: Workplace) -> Iterator[None]:
    """Only one driver at a time runs a sweep in one folder.

    Raises:
        AreamError: another process holds it; the message names it.
    """
    import fcntl

    workplace.folder.mkdir(parents=True, exist_ok=True)
    with (workplace.folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise AreamError(
                f"{workplace.folder}: another process runs this sweep ({file.read().strip()}); wait for it, or stop it"
            ) from error
        import os
        import socket

        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
