"""The life of stages that run outside of trials, handed on to the state, metrics and webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.results.records import Records
from orchestrator.run.trial_events import Listeners
from orchestrator.spec.settings import Resource
from workers.stage import Stage

if TYPE_CHECKING:
    from orchestrator.run.stage_tasks import TaskEvent


class StageLife:
    """The listener of shared stages or of segmentation jobs."""

    def __init__(self, told: Listeners, records: Records, kind: str, resource: Resource) -> None:
        self.told, self.records, self.kind, self.resource = told, records, kind, resource

    def add(self, stage: Stage) -> None:
        self.told.state.add(stage.key, stage.key, self.kind, _epochs(stage))

    def on_event(self, event: TaskEvent) -> None:
        key, told = event.stage.key, self.told
        if event.row is not None:
            told.state.row(key, event.row)
        elif told.state.tasks[key].status != event.status:
            told.state.update(key, status=event.status, error=event.error)
            if event.status == "done":
                record = self.records.record(key)
                last = record.history[-1] if record.history else {}  # it may still be on its way
                told.state.row(key, {**record.metrics, **last})
                told.metrics.stages(event.stage.ancestry(), self.records, self.resource)
            elif event.status == "waiting":  # its worker was lost
                told.metrics.add("retries", kind=self.kind)
            elif event.status == "failed":
                told.metrics.add("failures", kind=self.kind)
                told.webhook.tell("failed", f"{key} failed: {event.error}", told.state.counts())
        told.progress.changed(key)


def _epochs(stage: Stage) -> int:
    if stage.name == "warmup":
        return int(stage.config.train.warmup)
    return int(stage.config.train.epochs) if hasattr(stage.config, "train") else 0
