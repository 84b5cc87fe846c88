"""Trials on Ray Tune: the only module that knows it."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Read when ray.tune is imported. The automatic loggers pin every trial in the driver's memory; per-epoch rows carry
# no rank metric, which strict checking would refuse.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# A sweep resumes from its store; Tune's own snapshots of all trials would only grow with their number.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
# Tune's own handler would end the trials and return as if they were done.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from aream.errors import AreamError, Interrupted, StageHeld, StoreUnavailable
from orchestrator.cluster.node_images import NodeStore
from orchestrator.cluster.resources import requested
from orchestrator.cluster.stage_runner import stage_runner
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.monitor.tasks import COMPUTED_ELSEWHERE
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.results.records import RememberedRecords, lineage_cost, stage_metrics
from orchestrator.run.banks import train_in_banks
from orchestrator.run.channel import WorkerChannel, WorkerEnd
from orchestrator.run.lease_watch import LeaseWatch
from orchestrator.run.requeue import Config, DeferredError, RequeueingSearcher
from orchestrator.run.tune_callback import FAILED_STAGE, RECORDS, Listening, NodeUnreachable, TrialListener
from orchestrator.search.early_stopping import scheduler
from orchestrator.search.searchers import ListedPoints, SearchedPoints, planned
from orchestrator.search.stopped_trials import BY_HAND, Seen
from orchestrator.workspace import Workspace
from workers.failures import may_pass, stage_of, told
from workers.processes.gpu_memory import give_back
from workers.stage import Row, Stage

log = logging.getLogger(__name__)
# Tune would hand the driver's AWS keys to every trial, and Ray logs what is handed on; nodes have their own.
class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
# A lost worker is told in our own words; Tune would add a traceback of its inside.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

MAX_PENDING = 64
"""Trials of a grid that wait for resources beside each other."""
TRIES_AFTER_STALLS = 3


def run_trial(
    config: Mapping[str, Any], planner: Planner, workspace: Workspace, stopped: frozenset[str], channel: Any
) -> None:
    """One trial on a worker: train, infer once, label every variant; reports rows of epochs, then the result.

    After a worker that dies, or an error of its machine, Tune tries again, from the checkpoint; what fails for a reason
    of its own would fail again, so that is reported as a result.
    """
    try:
        trial = planned(planner, config)
        if trial.key in stopped:
            tune.report({"stopped": 1.0})
            return
        with WorkerEnd(channel, trial.key) as line:
            _run_trial(trial, planner, workspace, line)
    except StageHeld as error:
        tune.report({COMPUTED_ELSEWHERE: error.key})
    except Interrupted:
        tune.report({"paused": 1.0})
    except StoreUnavailable as error:
        tune.report({"away": str(error)})
    except Exception as error:
        if may_pass(error) or isinstance(error, ray.exceptions.RayError):
            raise
        words = str(error) if isinstance(error, AreamError) else told(error)
        tune.report({"failure": words, FAILED_STAGE: stage_of(error)})
    finally:
        give_back()  # this process may wait for its next trial while others want the memory


def _run_trial(trial: TrialPlan, planner: Planner, workspace: Workspace, line: WorkerEnd) -> None:
    resource = planner.spec.resources.trial
    last: Row = {}

    def report(stage: Stage, row: Row) -> None:
        if stage.key == trial.key:
            last.update(row)
            tune.report(dict(row))

    with workspace.logged(trial.key, trial=trial.key):
        images = NodeStore(line.images_actor)
        runner = stage_runner(
            workspace, cpu=resource.cpu, gpu=resource.gpus, report=report, stop=line.stop, images=images
        )
        records = RememberedRecords(runner.store)
        records.take([runner.run(trial.train)])
        stages = [stage for variant in trial.variants for stage in variant.stages.all()]
        records.take(runner.run_all(stages))
        best = planner.spec.ranked_by.best(stage_metrics(variant.stages.all(), records) for variant in trial.variants)
        cost = lineage_cost(stages, records, resource)
    read = json.dumps([dataclasses.asdict(record) for record in records.known.values()])
    tune.report({**last, **best, **cost, "complete": 1.0, RECORDS: read})


def run_trials(
    planner: Planner,
    workspace: Workspace,
    listener: TrialListener,
    supervisor: Supervisor,
    channel: WorkerChannel,
    *,
    listed: Sequence[TrialPlan] = (),
    stopped: frozenset[str] = frozenset(),
    seen: Sequence[Seen] = (),
) -> None:
    """Run ``listed`` trials, or those a search proposes; returns when all ended, or ``supervisor`` ended the sweep.

    Args:
        stopped: trials that an earlier run stopped early; they are not taken up again.
        seen: what the scheduler knows from earlier runs.
    """
    train_in_banks(planner, workspace, listener, supervisor, channel, listed)
    over: dict[str, str] = {}
    for _ in range(TRIES_AFTER_STALLS):
        try:
            _fit(
                planner, workspace, listener, supervisor, channel, listed=listed, stopped=stopped, seen=seen, over=over
            )
        except NodeUnreachable as error:
            log.warning("%s is on a node that does not answer; the trials that are left start anew", error)
            store = workspace.store()
            done = {trial.key for trial in listed if all(store.has(stage.key) for stage in trial.stages())}
            judged = [trial for trial in listed if trial.key in done]
            seen = [*seen, *(Seen(trial.values, trial.seed, store.record(trial.key).history) for trial in judged)]
            seen = [*seen, *listener.seen_stopped()]
            listed = [trial for trial in listed if trial.key not in done and trial.key not in over]
            stopped |= {key for key, how in over.items() if how == "stopped"}
        else:
            return
    supervisor.end(f"nodes fell silent {TRIES_AFTER_STALLS} times")


def _fit(
    planner: Planner,
    workspace: Workspace,
    listener: TrialListener,
    supervisor: Supervisor,
    channel: WorkerChannel,
    *,
    listed: Sequence[TrialPlan],
    stopped: frozenset[str],
    seen: Sequence[Seen],
    over: dict[str, str],
) -> None:
    spec = planner.spec
    points, count = _points(planner, workspace, listed)
    if spec.search is None:
        # Else workers of a listed grid start one after the other, each after the imports of the one before.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(count, MAX_PENDING))
    watch, problem, resource = LeaseWatch(workspace.store()), DeferredError(), spec.resources.trial

    def key(config: Mapping[str, Any]) -> str:
        return planned(planner, config).key

    def fails(config: Config) -> bool:
        trial = planned(planner, config)
        if failed := listener.fails_at_once(trial):
            over[trial.key] = "failed"
        return failed

    listening = Listening(planner, listener, supervisor, channel, watch, problem, over)
    gate = RequeueingSearcher(
        points,
        problem,
        poll=listening.look,
        closed=supervisor.is_over,
        paused=lambda: supervisor.paused,
        fails=fails,
        can_run=lambda config, awaited: (
            supervisor.desired_state(key(config)) == "run" and (awaited is None or watch.free(awaited))
        ),
        cancelled=lambda config: supervisor.desired_state(key(config)) == "stop",
        dropped=lambda config: listener.stopped_early(planned(planner, config), BY_HAND),
    )
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, planner=planner, workspace=workspace, stopped=stopped, channel=channel.actor),
        functools.partial(_placement, tuple(requested(resource).items())),
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=gate,
            scheduler=scheduler(spec, seen),
            num_samples=-1,
            max_concurrent_trials=spec.concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(workspace.folder),
            failure_config=tune.FailureConfig(max_failures=spec.limits.retries),
            callbacks=[listening],
            stop=_Over(lambda: supervisor.is_over() and not listening.running),
            verbose=0,
        ),
    )
    tuner.fit()
    problem.raise_pending()


class _Over(tune.Stopper):
    """Ends trials that wait for a place once nothing more begins and nothing runs: they may wait for ever."""

    def __init__(self, over: Callable[[], bool]) -> None:
        self.over = over

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores it beside the trials, for a restore of its own that is not used here."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.over()


def _placement(bundle: tuple[tuple[str, float], ...], config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Tune unpickles what it is given once a trial, and keeps it: a function is one for all of them."""
    return _group(bundle)


@functools.cache
def _group(bundle: tuple[tuple[str, float], ...]) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([dict(bundle)])


def _points(planner: Planner, workspace: Workspace, listed: Sequence[TrialPlan]) -> tuple[Searcher, int]:
    """The source of points and how many it gives."""
    spec = planner.spec
    if spec.search is None:
        store = workspace.store()
        trained = {index for index, trial in enumerate(listed) if spec.scheduler and store.has(trial.key)}
        return ListedPoints(listed, trained), len(listed)
    searched = SearchedPoints(planner, workspace.folder)
    return searched, spec.search.trials * len(spec.seeds)
