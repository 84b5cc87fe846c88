"""Trials on Ray Tune: the only module that knows it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Read when ray.tune is imported. The automatic loggers pin every trial in the driver's memory; per-epoch rows carry
# no rank metric, which strict checking would refuse.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Tune's own handler would end the trials and return as if they were done.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from aream.errors import StageFailed
from orchestrator.plan import Planner, TrialPlan
from orchestrator.search import ListedPoints, SearchedPoints
from orchestrator.spec import SweepSpec
from orchestrator.workplace import Workplace
from workers.stage import Row, Stage

MAX_PENDING = 64
"""Trials of a grid that wait for resources beside each other."""


class TrialListener(Protocol):
    """What the driver does with a trial's life; all calls come from one thread."""

    def started(self, trial: TrialPlan) -> None: ...
    def row(self, trial: TrialPlan, row: Row) -> None: ...
    def finished(self, trial: TrialPlan) -> None: ...
    def stopped_early(self, trial: TrialPlan) -> None: ...
    def failed(self, trial: TrialPlan, error: str) -> None: ...


def run_trial(config: Mapping[str, Any], planner: Planner, workplace: Workplace, stopped: frozenset[str]) -> None:
    """One trial on a worker: train, infer once, label every variant; reports rows of epochs, then the result.

    A worker that dies raises, and Tune tries again, from the checkpoint; a stage that fails for a reason of its own
    would fail again, so that is reported as a result.
    """
    trial = planner.trial(config["values"], config["seed"])
    if trial.key in stopped:
        tune.report({"stopped": 1.0})
        return
    try:
        _run_trial(trial, planner, workplace)
    except StageFailed as error:
        tune.report({"failure": str(error)})


def _run_trial(trial: TrialPlan, planner: Planner, workplace: Workplace) -> None:
    resource, metric = planner.spec.resources.trial, planner.spec.rank.metric
    last: Row = {}

    def report(stage: Stage, row: Row) -> None:
        if stage.key == trial.key:
            last.update(row)
            tune.report(dict(row))

    with workplace.logged(trial.key):
        runner = workplace.runner(threads=max(1, int(resource.cpu)), gpu=resource.gpu > 0, report=report)
        runner.run(trial.train)
        results = []
        for variant in trial.variants:
            metrics: Row = {}
            for stage in variant.stages.all():
                metrics |= runner.run(stage).metrics
            results.append(metrics)
    pick = max if planner.spec.rank.mode == "max" else min
    scores = [metrics[metric] for metrics in results if metric in metrics]
    tune.report({**last, **({metric: pick(scores)} if scores else {}), "complete": 1.0})


@dataclass
class _Listening(tune.Callback):
    """Translates Tune's trials into ours."""

    planner: Planner
    listener: TrialListener

    def __post_init__(self) -> None:
        self.plans: dict[str, TrialPlan] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores its callbacks beside the trials, for a restore of its own that is not used here."""
        return {"planner": self.planner, "plans": {}}

    def plan(self, trial: Trial) -> TrialPlan:
        if trial.trial_id not in self.plans:
            self.plans[trial.trial_id] = self.planner.trial(trial.config["values"], trial.config["seed"])
        return self.plans[trial.trial_id]

    def _last_plan(self, trial: Trial) -> TrialPlan:
        plan = self.plan(trial)
        del self.plans[trial.trial_id]
        return plan

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.listener.started(self.plan(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        row = {name: float(value) for name, value in result.items() if "/" in name or name in ("epoch", "lr")}
        if row and not result.get("complete"):
            self.listener.row(self.plan(trial), row)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        plan = self._last_plan(trial)
        if trial.last_result.get("failure"):
            self.listener.failed(plan, trial.last_result["failure"])
        elif trial.last_result.get("complete"):
            self.listener.finished(plan)
        else:
            self.listener.stopped_early(plan)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        error = trial.get_error()
        cause = getattr(error, "cause", None) or error
        self.listener.failed(self._last_plan(trial), str(cause or "unknown error"))


def run_trials(
    planner: Planner,
    workplace: Workplace,
    listener: TrialListener,
    *,
    listed: Sequence[TrialPlan] = (),
    stopped: frozenset[str] = frozenset(),
) -> None:
    """Run ``listed`` trials, or those a search proposes; returns when all ended, one way or another.

    Args:
        stopped: trials that an earlier run stopped early; they are not taken up again.
    """
    spec = planner.spec
    searcher, count = _points(planner, workplace, listed)
    if spec.search is None:
        # Else workers of a listed grid start one after the other, each after the imports of the one before.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(count, MAX_PENDING))
    resource = spec.resources.trial
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, planner=planner, workplace=workplace, stopped=stopped),
        {"cpu": resource.cpu, "gpu": resource.gpu},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(spec),
            num_samples=count,
            max_concurrent_trials=spec.concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(workplace.folder),
            failure_config=tune.FailureConfig(max_failures=2),
            callbacks=[_Listening(planner, listener)],
            verbose=0,
        ),
    )
    tuner.fit()


def _points(planner: Planner, workplace: Workplace, listed: Sequence[TrialPlan]) -> tuple[Searcher, int]:
    """The source of points and how many it gives."""
    spec = planner.spec
    if spec.search is None:
        return ListedPoints([(trial.values, trial.seed) for trial in listed]), len(listed)
    searched = SearchedPoints(
        spec.training_axes(),
        lambda values: spec.violation(values) == 0,
        spec.seeds,
        spec.search.trials,
        algorithm=spec.search.algorithm,
        metric=spec.rank.metric,
        mode=spec.rank.mode,
        seed=spec.search.seed,
        log_file=workplace.folder / "search.jsonl",
    )
    return searched, spec.search.trials * len(spec.seeds)


def _scheduler(spec: SweepSpec) -> TrialScheduler:
    if spec.scheduler is None:
        return FIFOScheduler()
    epochs = spec.base.train.epochs
    return ASHAScheduler(
        time_attr="epoch",
        metric=spec.scheduler.metric,
        mode="max",
        grace_period=spec.scheduler.grace_epochs,
        reduction_factor=spec.scheduler.reduction_factor,
        # Above the last epoch: a trial that gets there must go on to its CAMs, not be stopped as complete.
        max_t=epochs + 1,
    )
