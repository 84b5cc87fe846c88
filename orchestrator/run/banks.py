"""Trainings of several trials in one process, before the trials: these find them stored.

What fails in a bank, or does not fit into memory beside the others, is not told here: its trial trains by itself, from
its own checkpoint, and whatever it meets there is its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from orchestrator.monitor.supervisor import Supervisor
from orchestrator.plan.banks import banks
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.run.channel import WorkerChannel
from orchestrator.run.stage_tasks import StageTasks, TaskEvent
from orchestrator.run.tune_callback import TrialListener
from orchestrator.workspace import Workspace

log = logging.getLogger(__name__)


def train_in_banks(
    planner: Planner,
    workspace: Workspace,
    listener: TrialListener,
    supervisor: Supervisor,
    channel: WorkerChannel,
    trials: Sequence[TrialPlan],
) -> None:
    """Train those of the ``trials`` that share their batches, as many in a process as ``resources.trial.bank`` says;
    returns when all ended, or ``supervisor`` ended the sweep."""
    resource, store = planner.spec.resources.trial, workspace.store()
    wanted = [trial for trial in trials if supervisor.desired_state(trial.key) == "run" and not store.has(trial.key)]
    groups = {group[0].key: group for group in banks(wanted, resource.bank)}
    if not groups:
        return
    StageTasks(
        [group[0].train for group in groups.values()],
        workspace,
        resource,
        planner.spec.limits,
        supervisor,
        BankLife(listener, groups.values()).on_event,
        listener.stalled,
        listener.short,
        channel,
        beside={key: [trial.train for trial in others] for key, (_, *others) in groups.items()},
    ).run()


class BankLife:
    """Tells the trials of what happens to their bank."""

    def __init__(self, listener: TrialListener, groups: Iterable[Sequence[TrialPlan]]) -> None:
        self.listener = listener
        self.group = {group[0].key: group for group in groups}
        self.trial = {trial.key: trial for group in self.group.values() for trial in group}

    def on_event(self, event: TaskEvent) -> None:
        if event.row is not None:
            self.listener.row(self.trial[event.stage.key], event.row)
            return
        for trial in self.group[event.stage.key]:
            if event.status == "running":
                self.listener.started(trial)
            elif event.status in ("done", "failed"):  # what is left to do, the trial does
                self.listener.waits(trial, "waiting", None)
            else:
                self.listener.waits(trial, event.status, event.error)
        if event.status == "failed":
            log.warning("the bank of %s is given up: %s", event.stage.key, event.error)
