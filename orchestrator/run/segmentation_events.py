"""The life of segmentation jobs, handed on to the state, the tracker and metrics."""

from __future__ import annotations

from orchestrator.results.records import RunRecords
from orchestrator.results.segmentation_jobs import SegmentationJob
from orchestrator.run.trial_events import Listeners
from orchestrator.spec.settings import Resource
from orchestrator.tracking.run_names import SWEEP, trial_run
from workers.artifacts.holds import Hold


class SegmentationLife:
    """The listener of all segmentation jobs of one run; what happens while one runs, ``StageLife`` hears."""

    def __init__(self, told: Listeners, records: RunRecords, hold: Hold, resource: Resource) -> None:
        self.told, self.records, self.hold, self.resource = told, records, hold, resource

    def add(self, job: SegmentationJob) -> None:
        key, state = job.stage.key, self.told.state
        state.add(key, job.title, "segmentation", job.stage.inputs["segmenter"].config.train.known_epochs)
        self.hold.add(stage.key for stage in job.stage.ancestry())
        if self.records.has(key):
            state.update(key, status="done", cached=True)
            self.told.metrics.stages(job.stage.ancestry(), self.records, self.resource)

    def ended(self, job: SegmentationJob) -> None:
        """Record its result if there is one."""
        if not self.records.has(job.stage.key):
            return
        record = self.records.record(job.stage.key)
        train = self.records.record(record.inputs["segmenter"])
        parent = trial_run(job.trial_key) if job.trial_key else SWEEP
        self.told.state.row(job.stage.key, dict(record.metrics))
        self.told.recorder.segmentation(job.stage, job.title, job.labels, parent, record.metrics, train.history)
