"""Trainings of several trials in one process, before the trials: these find them stored.

What a bank leaves, because it failed or memory did not hold it beside the others, goes into further banks as long as
they get something done. What is left then is not told here: its trial trains by itself, from its own checkpoint, and
whatever it meets there is its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from orchestrator.cluster.connection import nodes
from orchestrator.cluster.resources import places
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.plan.banks import balanced, banks
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.run.channel import WorkerChannel
from orchestrator.run.stage_tasks import StageTasks, TaskEvent
from orchestrator.run.tune_callback import TrialListener
from orchestrator.workspace import Workspace
from workers.artifacts.store import ArtifactStore

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
    most = resource.most_in_a_bank
    if resource.bank == "auto":
        most = balanced(wanted, most, places(resource, nodes()))
    while groups := {group[0].key: group for group in banks(wanted, most)}:
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
        wanted = [trial for group in groups.values() for trial in _left(group, store)]


def _left(group: Sequence[TrialPlan], store: ArtifactStore) -> list[TrialPlan]:
    """Those that a bank did not train though it trained others; of one that trained none it is no use to try again."""
    left = [trial for trial in group if not store.has(trial.key)]
    return left if len(left) < len(group) else []


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
            log.warning("the bank of %s did not train all of its trainings: %s", event.stage.key, event.error)
