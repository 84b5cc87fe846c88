"""A sweep from Python: in a notebook, in a test, in a program of one's own.

from orchestrator import api

spec = api.load("sweeps/thresholds.yaml", train__epochs=4)
api.plan(spec).table()
found = api.run(spec)                       # or api.results("thresholds"), of an earlier run
found.table(), found.image("train_00003").cam
api.run_trial(spec, {"method.name": "aream", ...})   # in this process, without Ray: a debugger stops there
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.errors import ConfigError
from orchestrator.cluster.stage_runner import stage_runner
from orchestrator.plan.planner import TrialPlan
from orchestrator.preflight.prepare import Prepared, prepare
from orchestrator.results.opened import LabelledImage, Results
from orchestrator.spec.reader import load_spec
from orchestrator.spec.spec import SweepSpec
from orchestrator.workspace import locate
from workers.stage import Row, Stage
from workers.stage_runner import StageRunner

if TYPE_CHECKING:
    import pandas

__all__ = ["LabelledImage", "Plan", "Results", "load", "plan", "results", "run", "run_stage", "run_trial"]


def load(path: str | Path, overrides: Mapping[str, Any] | None = None, **more: Any) -> SweepSpec:
    """Read a sweep file.

    Args:
        overrides: dotted key -> value in the place of the file's.
        more: the same as keywords, with two underscores for a dot: ``train__epochs=4``.

    Raises:
        SpecError: all that is wrong, each with file and line, key, what was given and what is allowed.
    """
    given = {**(overrides or {}), **{key.replace("__", "."): value for key, value in more.items()}}
    return load_spec(Path(path), [f"{key}={_as_text(key, value)}" for key, value in given.items()])


def _as_text(key: str, value: Any) -> str:
    """Raises ``ConfigError`` for what no sweep file can hold."""
    try:
        return json.dumps(value, ensure_ascii=False, default=os.fspath)  # a path is a text
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: given {value!r}; need what a sweep file holds ({error})") from error


@dataclass(frozen=True)
class Plan:
    """The trials and stages that a sweep will run, and which of them are stored already."""

    prepared: Prepared

    @property
    def trials(self) -> list[TrialPlan]:
        """All trials of a grid; those at the axis bounds of a search."""
        planner = self.prepared.planner
        return planner.corners() if planner.spec.search else planner.grid()

    def table(self) -> pandas.DataFrame:
        """A row a stage, inputs before what needs them."""
        import pandas

        store = self.prepared.workspace.store()
        stages = {stage.key: stage for trial in self.trials for stage in trial.stages()}
        rows = [
            {
                "key": key,
                "stage": stage.name,
                "stored": store.has(key),
                "inputs": [i.key for i in stage.inputs.values()],
            }
            for key, stage in stages.items()
        ]
        return pandas.DataFrame(rows, columns=["key", "stage", "stored", "inputs"]).set_index("key")


def plan(spec: SweepSpec) -> Plan:
    """Check all that can be known before anything runs.

    Raises:
        AreamError: data, weights, a store or a configuration that cannot be used.
    """
    return Plan(prepare(spec))


def run(spec: SweepSpec, *, address: str | None = None, fresh: bool = False) -> Results:
    """Run or resume a sweep; trials that failed are told in the results' ``failures``.

    Args:
        address: of a Ray cluster; None: one of this machine, for as long as the sweep runs.
        fresh: whether everything is computed anew, whatever is stored.

    Raises:
        AreamError: it cannot run.
        KeyboardInterrupt: it was interrupted; what was computed is stored, and the next run goes on there.
    """
    from orchestrator.run.session import run_sweep  # Ray takes seconds to import

    prepared = prepare(spec, fresh=fresh)
    run_sweep(prepared, address=address, fresh=fresh)
    return Results(prepared.workspace)


def results(sweep: str | Path, runs: str | Path = "runs") -> Results:
    """Open the results of an earlier run.

    Args:
        sweep: its YAML file, or its name under the folder ``runs``.

    Raises:
        AreamError: no such sweep, or one without results.
    """
    return Results(locate(os.fspath(sweep), os.fspath(runs)))


def run_trial(spec: SweepSpec, point: Mapping[str, Any], seed: int | None = None) -> pandas.DataFrame:
    """Train and evaluate one point of the axes in this process, without Ray; what is stored is not computed again.

    Args:
        point: training axis -> value, the file's own where it is left out; all of its variants are evaluated.
        seed: None: the first of the sweep.

    Returns:
        A row a variant: its axes and metrics.

    Raises:
        ConfigError: there is no axis of that name, or the point cannot be.
        StageFailed: a stage failed.
    """
    import pandas

    prepared = prepare(spec)
    trial, runner = _trial(prepared, point, seed), _runner(prepared)
    trained = runner.run(trial.train).metrics
    stages = [stage for variant in trial.variants for stage in variant.stages.all()]
    measured = {record.key: record.metrics for record in runner.run_all(stages)}
    rows: list[dict[str, Any]] = []
    for variant in trial.variants:
        row = {**variant.shown, **trained}
        for stage in variant.stages.all():
            row |= measured[stage.key]
        rows.append(row)
    return pandas.DataFrame(rows)


def run_stage(spec: SweepSpec, key: str, out: str | Path) -> Row:
    """Run one stage of a sweep in this process, on its stored inputs, whether or not its own result is stored.

    What it needs is computed where the store has not got it; the store is not given the result.

    Args:
        key: of the stage, as ``plan(spec).table()`` has it.
        out: an empty folder, or one that is made, for its files.

    Returns:
        Its metrics.

    Raises:
        ConfigError: no such stage, or a folder with something in it.
        AreamError: what the stage raises.
    """
    made = Plan(prepare(spec))
    stages: dict[str, Stage] = {stage.key: stage for trial in made.trials for stage in trial.stages()}
    if key not in stages:
        raise ConfigError(f"key: the sweep has no stage {key[:80]!r}; plan(spec).table() has all of them")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"out: {folder} is not empty")
    return _runner(made.prepared).run_into(stages[key], folder)


def _runner(prepared: Prepared) -> StageRunner:
    resource = prepared.spec.resources.trial
    gpu = float(prepared.planner.hardware("trial").device == "cuda")
    return stage_runner(prepared.workspace, cpu=resource.cpu, gpu=gpu)


def _trial(prepared: Prepared, point: Mapping[str, Any], seed: int | None) -> TrialPlan:
    spec = prepared.spec
    axes = [axis.key for axis in spec.training_axes()]
    if unknown := [key for key in point if key not in axes]:
        raise ConfigError(f"point: no training axis {unknown[0][:80]!r}; there are: {', '.join(axes) or 'none'}")
    if spec.violation(point):
        raise ConfigError("point: no variant of it meets the sweep's where")
    return prepared.planner.trial(point, spec.seeds[0] if seed is None else seed)
