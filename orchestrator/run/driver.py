"""Running a sweep: plan, shared stages, trials, ranking, segmentation, report. Running it again is resuming it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aream.errors import AreamError, StoreUnavailable
from orchestrator.cluster.auto_gpus import AutoGpus
from orchestrator.monitor.forecast import expected_tasks
from orchestrator.monitor.progress import ProgressDisplay
from orchestrator.monitor.state import SweepState
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.monitor.tasks import ENDED
from orchestrator.plan.planner import Planner, TrialPlan, shared_stages
from orchestrator.preflight import fresh_start
from orchestrator.preflight.sweep_folder import sweep_id
from orchestrator.reporting.summary import Summary
from orchestrator.reporting.tracker_page import tracker_page
from orchestrator.reporting.write import write_summary
from orchestrator.results.ranking import Ranked, best_first, measured, unranked
from orchestrator.results.records import RunRecords
from orchestrator.results.segmentation_jobs import SegmentationJob, segmentation_jobs
from orchestrator.run.outcome import SweepOutcome
from orchestrator.run.segmentation_events import SegmentationLife
from orchestrator.run.stage_events import StageLife
from orchestrator.run.trial_events import Listeners, TrialLife
from orchestrator.search.stopped_trials import BY_HAND, BY_SCHEDULER, Seen, stopped_sentence, stopped_tasks
from orchestrator.spec.metric_checks import remarks
from orchestrator.spec.metrics import of_segmentation, of_training
from orchestrator.spec.settings import Resource
from orchestrator.spec.spec import SweepSpec
from orchestrator.text import many
from orchestrator.tracking.prometheus import Metrics
from orchestrator.tracking.recorder import Recorder
from orchestrator.tracking.tracker import Tracker
from orchestrator.tracking.webhook import Webhook
from orchestrator.workspace import Workspace
from workers.artifacts.collection import tidy
from workers.artifacts.holds import Hold
from workers.stage import Stage

if TYPE_CHECKING:
    from orchestrator.run.channel import WorkerChannel

log = logging.getLogger(__name__)

TRACKING_CLOSE_S = 30.0


class Driver:
    """One run of a sweep."""

    def __init__(
        self,
        planner: Planner,
        workspace: Workspace,
        tracker: Tracker,
        start_ray: Callable[[Callable[[str], None]], WorkerChannel],
        reads: Collection[str] = (),
    ) -> None:
        """``reads``: keys of artifacts in the place of data or weights, which nobody may collect meanwhile."""
        self.planner, self.workspace, self.start_ray = planner, workspace, start_ray
        self.spec, self.store = planner.spec, workspace.store()
        self.records = RunRecords(self.store)
        shown = tuple(dict.fromkeys([*of_training(), self.spec.ranked_by.metric]))
        expected = expected_tasks(self.spec)
        columns = (*shown, *of_segmentation()) if self.spec.segmentation is not None else shown
        self.state = SweepState(workspace.state_file, self.spec.name, expected=expected, columns=columns)
        self.progress = ProgressDisplay(self.state, (*shown, *of_segmentation()), workspace.log_file)
        self.tracker = tracker
        self.recorder = Recorder(tracker, self.spec, planner.fingerprints, self.store, workspace.folder)
        self.supervisor = Supervisor(workspace.control_file, workspace.spent_file, self.spec.limits)
        self.supervisor.each_tick = self._tick
        self.metrics = Metrics(self.state, tracker.left)
        self.auto = AutoGpus(workspace, self.supervisor, self.progress, self._channel)
        self.auto.check(self.spec)
        self.webhook = Webhook(self.spec.name, self.spec.notify)
        replaces = fresh_start.replaced(workspace)
        self.hold = Hold(self.store.storage, sweep_id(workspace), self.spec.name, reads, replaces)
        self.told = Listeners(self.state, self.progress, self.recorder, self.metrics, self.webhook)
        stopped_file = workspace.folder / "stopped.json"
        self.trials = TrialLife(self.spec, self.records, self.told, self.supervisor, self.hold, stopped_file)

    def run(self) -> SweepOutcome:
        with self.progress, self.hold:
            self.recorder.open_sweep()
            for remark in remarks(self.spec):
                self.progress.line(f"note: {remark}")
            listed = self._listed()
            if self._planned_anew("trial", [stage for trial in listed for stage in trial.stages()]):
                listed = self._listed()
            for trial in listed:
                self.trials.add(trial)
            self.hold.save()
            self._prelude(self.planner.corners() if self.spec.search else listed)
            self._run_trials(listed)
            self._adopt(self.auto.remembered(self.spec, "trial"))
            self.progress.phase("ranking")
            wanted = self.spec.ranked_by
            found = measured(list(self.trials.plans.values()), self.records, self.spec.resources.trial)
            ranking, left_out = best_first(found, wanted), unranked(found, wanted.metric)
            for title, why in left_out.items():
                self.progress.line(f"not ranked: {title}: {why}")
            jobs = self._segmentation(ranking)
            self.progress.phase("writing the report")
            prints, failures, settled = self.planner.fingerprints, self.trials.failures, self.auto.why
            pages = self.recorder.pages(TRACKING_CLOSE_S)
            summary = Summary(self.spec, ranking, jobs, failures, prints, self.state, settled, left_out, pages)
            files = write_summary(summary, self.workspace, self.store, self.records)
            self._close(summary, files)
            self.supervisor.save()
            self._tidy()
            ended = self.supervisor.ending
            if not (ended or self.trials.failures):
                self._all_is_there()
            self.progress.phase(f"stopped ({ended})" if ended else "finished")
        text = f"ended early: {ended}" if ended else f"finished, {len(self.trials.failures)} failed"
        if stopped := stopped_sentence(stopped_tasks(self.state)):
            text += f", {stopped}"
        self.webhook.tell("stopped" if ended else "done", text, self.state.counts())
        left = self.tracker.close(TRACKING_CLOSE_S)
        self.metrics.sample(last=True)
        self.webhook.close()
        return SweepOutcome(ranking, self.trials.failures, left, ended, left_out)

    def _all_is_there(self) -> None:
        """Let artifacts be collected that only earlier versions of the sweep named."""
        if self.spec.search:
            from orchestrator.search.record import known_points

            for point in known_points(self.planner, self.workspace.folder):
                trials = [self.planner.trial(point.values, seed) for seed in self.spec.seeds]
                self.hold.add(stage.key for trial in trials for stage in trial.stages())
        self.hold.complete()
        fresh_start.computed(self.workspace)

    def _tidy(self) -> None:
        try:
            tidy(self.store)
        except AreamError as error:  # all results are there
            log.warning("files of killed processes are left to the next run: %s", error)

    def _listed(self) -> list[TrialPlan]:
        """None of a search, whose trials are not known before."""
        return [] if self.spec.search else self.planner.grid()

    def _planned_anew(self, job: str, stages: Sequence[Stage]) -> bool:
        """True if the cluster's device for a job changes the planned keys; not checked where all stages are stored."""
        undecided = getattr(self.spec.resources, job).gpu == "auto"
        if not undecided or (stages and all(self.records.has(stage.key) for stage in stages)):
            return False
        before, self.planner = self.planner, self.auto.agreeing(self.planner, job)
        return self.planner is not before

    def _present(self, trials: Sequence[TrialPlan]) -> set[str]:
        """Keys of their stages that are stored."""
        return self.records.present([stage.key for trial in trials for stage in trial.stages()])

    def _tick(self) -> None:
        if self.state.problem != self.tracker.problem:
            self.state.problem = self.tracker.problem
            self.state.save(soon=True)
        self.state.catch_up()
        self.progress.catch_up()
        self.metrics.sample()

    def _channel(self) -> WorkerChannel:
        channel = self.start_ray(self.progress.line)
        if where := self.metrics.send():
            self.progress.line(where)
        return channel

    def _prelude(self, trials: Sequence[TrialPlan]) -> None:
        """Stages that several trials need, once; those only needed to reach stages already stored are left out."""
        present = self._present(trials)
        open_trials = [trial for trial in trials if any(stage.key not in present for stage in trial.stages())]
        shared = [stage for stage in shared_stages(open_trials) if stage.key not in present]
        if open_trials and (spent := self.supervisor.budget_spent()):  # before Ray is started for nothing
            self.supervisor.end(spent)
        if shared and not self.supervisor.is_over():
            self.progress.phase(f"{many(len(shared), 'stage')} shared by several trials")
            self._run_stages(shared, "shared stage", self.auto.whole(self.spec, "trial"))

    def _adopt(self, spec: SweepSpec) -> None:
        if spec != self.spec:
            self.spec, self.planner = spec, dataclasses.replace(self.planner, spec=spec)
            self.trials.spec = spec
            self.recorder.resolved(spec)

    def _run_trials(self, listed: Sequence[TrialPlan]) -> None:
        early = self.trials.stopped().by(self.spec.scheduler)
        by_hand = {key for key, state in self.supervisor.orders.trials.items() if state == "stop"}
        pending, seen, present = [], [], self._present(listed)
        for trial in listed:
            if all(stage.key in present for stage in trial.stages()):
                seen.append(self.trials.stored(trial))
            elif trial.key in by_hand:
                self.state.update(trial.key, status="stopped", error=BY_HAND)
            elif trial.key in early and trial.key not in present:
                self.state.update(trial.key, status="stopped", error=BY_SCHEDULER)
                seen.append(Seen(trial.values, trial.seed, early[trial.key]))
            elif not self.trials.fails_at_once(trial):
                pending.append(trial)
        if pending or self.spec.search:
            self._adopt(self.auto.for_trials(self.planner, pending or self.planner.corners()))
        if (not pending and not self.spec.search) or self.supervisor.is_over():
            return
        self.progress.phase("trials")
        channel = self._channel()
        from orchestrator.run.tuning import run_trials

        out = frozenset(by_hand if listed else by_hand | early.keys())
        life, supervisor = self.trials, self.supervisor
        run_trials(self.planner, self.workspace, life, supervisor, channel, listed=pending, stopped=out, seen=seen)
        for trial in pending:
            if self.state.tasks[trial.key].status not in ENDED:
                if self.supervisor.is_over():
                    self.state.update(trial.key, status="waiting")
                else:
                    self.trials.failed(trial, "it did not end; run the same command again")
        self._leave_if_store_is_away()

    def _leave_if_store_is_away(self) -> None:
        """A ranking of what is stored cannot be read either.

        Raises:
            StoreUnavailable: as a worker told it.
        """
        if self.supervisor.away is not None:
            raise StoreUnavailable(self.supervisor.away)

    def _segmentation(self, ranking: Sequence[Ranked]) -> list[SegmentationJob]:
        jobs = segmentation_jobs(self.planner, ranking)
        if jobs and self._planned_anew("segmentation", [job.stage for job in jobs]):
            jobs = segmentation_jobs(self.planner, ranking)
        pending = [job for job in jobs if not self.records.has(job.stage.key)]
        life = SegmentationLife(self.told, self.records, self.hold, self.spec.resources.segmentation)
        for job in jobs:
            life.add(job)
        self._adopt(self.auto.for_segmentation(self.spec, pending))
        if pending and not self.supervisor.is_over():
            self.progress.phase(many(len(pending), "segmentation job"))
            self._run_stages([job.stage for job in pending], "segmentation", self.spec.resources.segmentation)
        for job in jobs:
            life.ended(job)
        return jobs

    def _run_stages(self, stages: Sequence[Stage], kind: str, resource: Resource) -> None:
        channel = self._channel()
        from orchestrator.run.stage_tasks import StageTasks  # needs ray

        life = StageLife(self.told, self.records, kind, resource)
        for stage in stages:
            life.add(stage)
        self.hold.save()
        tasks = StageTasks(
            stages,
            self.workspace,
            resource,
            self.spec.limits,
            self.supervisor,
            life.on_event,
            self.trials.stalled,
            self.trials.short,
            channel,
        )
        self.trials.stages_failed(tasks.run())
        self._leave_if_store_is_away()

    def _close(self, summary: Summary, files: Sequence[Path]) -> None:
        best = summary.ranking[0].metrics if summary.ranking else {}
        status = "KILLED" if self.supervisor.ending else "FAILED" if self.trials.failures else "FINISHED"
        content = json.loads(self.workspace.summary_file.read_text(encoding="utf-8"))
        self.recorder.close_sweep(tracker_page(content), files, best, status)
