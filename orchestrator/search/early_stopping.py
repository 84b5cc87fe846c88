"""Stop trials early by a metric of their epochs, counted from the end of the warm-up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from aream.train_config import TrainConfig
from orchestrator.search.searchers import REPLAYED
from orchestrator.search.stopped_trials import Seen
from orchestrator.spec.settings import Scheduler, goal
from orchestrator.spec.spec import SweepSpec

OWN_EPOCHS = "own_epochs"


class _AfterWarmup:
    """Before a scheduler of Tune: hands on the rows of a trial's own epochs, and lets finished trainings be.

    Rows of the warm-up are the same in all trials that share it, and come all at once. A training that has reached
    its last epoch goes on to its CAMs; one that an earlier run finished only shows how good others must be. A training
    that was paused is another trial of Tune when it goes on: its earlier epochs count once, and it is judged as if it
    had not been.
    """

    spec: SweepSpec
    trainings: dict[str, TrainConfig]
    judged: dict[str, int]
    """The last epoch of each training that the scheduler has seen."""
    known_as: dict[str, _Standing]
    """Of each training the trial that the scheduler takes it for, whichever of Tune's runs it now."""

    def read_epochs(self, spec: SweepSpec) -> None:
        """Prepare for a run; to be called before the first row."""
        self.spec, self.trainings, self.judged, self.known_as = spec, {}, {}, {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if "epoch" not in result or result.get("complete"):
            return TrialScheduler.CONTINUE
        if trial.trial_id not in self.trainings:
            config = self.spec.trial(trial.config["values"], trial.config["seed"])
            self.trainings[trial.trial_id] = config.train
        train, epoch = self.trainings[trial.trial_id], int(result["epoch"])
        training = json.dumps([trial.config["values"], trial.config["seed"]], sort_keys=True)
        if epoch <= max(train.warmup, self.judged.get(training, 0)):
            return TrialScheduler.CONTINUE
        self.judged[training] = epoch
        row = {**result, OWN_EPOCHS: epoch - train.warmup}
        known = self.known_as.setdefault(training, _Standing(trial.trial_id, trial.config))
        action: str = super().on_trial_result(tune_controller, known, row)  # type: ignore[misc]
        if action != TrialScheduler.CONTINUE and epoch < train.epochs and not trial.config.get(REPLAYED):
            return TrialScheduler.STOP
        self.spare(known)
        return TrialScheduler.CONTINUE

    def spare(self, known: _Standing) -> None:
        """Take further rows of a trial that goes on, whatever was decided."""

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """The last report repeats the last row, or has none."""


class _AfterWarmupASHA(_AfterWarmup, ASHAScheduler): ...


class _AfterWarmupMedian(_AfterWarmup, MedianStoppingRule):
    def spare(self, known: _Standing) -> None:
        self._stopped_trials.discard(known)


@dataclass(frozen=True, eq=False)
class _Standing:
    """Stands for one of Tune's trials."""

    trial_id: str
    config: dict[str, Any]


def scheduler(spec: SweepSpec, seen: Iterable[Seen] = ()) -> TrialScheduler:
    """The sweep's scheduler; without one every trial runs to its end.

    Args:
        seen: trials of earlier runs, which others are compared with.
    """
    if spec.scheduler is None:
        return FIFOScheduler()
    asha = spec.scheduler.name == "asha"
    chosen = _asha(spec.scheduler, spec.own_epochs()) if asha else _median(spec.scheduler)
    chosen.read_epochs(spec)
    for number, trial in enumerate(seen):
        stored: Any = _Standing(f"earlier-{number}", {"values": trial.values, "seed": trial.seed, REPLAYED: True})
        chosen.on_trial_add(None, stored)
        for row in trial.rows:
            chosen.on_trial_result(None, stored, dict(row))
    return chosen


def _asha(settings: Scheduler, most_epochs: int) -> _AfterWarmupASHA:
    return _AfterWarmupASHA(
        time_attr=OWN_EPOCHS,
        metric=settings.metric,
        mode=goal(settings.metric, settings.mode).mode,
        grace_period=settings.grace_epochs,
        reduction_factor=settings.reduction_factor,
        # Above the last epoch, where Tune itself would end the trial.
        max_t=most_epochs + 1,
    )


def _median(settings: Scheduler) -> _AfterWarmupMedian:
    return _AfterWarmupMedian(
        time_attr=OWN_EPOCHS,
        metric=settings.metric,
        mode=goal(settings.metric, settings.mode).mode,
        grace_period=settings.grace_epochs,
        min_samples_required=settings.min_trials,
        # Never: with too few trials to compare it would pause one for another, and a pause is a start from scratch.
        min_time_slice=float("inf"),
        # A hard stop takes no more rows of a trial that was spared.
        hard_stop=False,
    )
