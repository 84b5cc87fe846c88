"""Sources of the next trial for Ray Tune: the grid's list, or a search, each point run at every seed."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune.search import Searcher

from aream.errors import AreamError
from orchestrator.plan.planner import Planner, TrialPlan
from orchestrator.search.record import FAILED, STOPPED, PointOutcome, SearchRecord
from orchestrator.search.study import Point, SearchStudy

REPLAYED = "replayed"
"""Key of a trial's configuration if its training is finished: it is only ranked, and never stopped early."""


def planned(planner: Planner, config: Mapping[str, Any]) -> TrialPlan:
    """The trial that Tune was told to run by one of these searchers."""
    return planner.trial(config["values"], config["seed"], config.get("merged", ()))


class ListedPoints(Searcher):
    """A fixed list of trials, for the grid."""

    def __init__(self, trials: Sequence[TrialPlan], trained: Collection[int] = ()) -> None:
        """``trained``: positions of trials whose training is stored already, so that only the rest is to be made."""
        super().__init__()
        self.points = deque(
            {"values": trial.values, "seed": trial.seed, "merged": list(trial.merged), REPLAYED: index in trained}
            for index, trial in enumerate(trials)
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        return self.points.popleft() if self.points else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A list learns nothing from results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the artifact store is what a later run continues from."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a grid continues by running its sweep again, not from a Tune checkpoint")


class SearchedPoints(Searcher):
    """A search's points, each at every seed, told the mean over them.

    What an earlier run proposed comes first: points without a result, which go on, then those with one, which the
    artifact store answers.

    Raises:
        AreamError: the search's storage cannot be used.
    """

    def __init__(self, planner: Planner, folder: Path) -> None:
        super().__init__()
        spec = planner.spec
        assert spec.search is not None  # a grid is listed
        self.seeds, self.trials, self.objectives = spec.seeds, spec.search.trials, spec.objectives
        self.study = SearchStudy(spec, SearchRecord(planner, folder))
        known = list(self.study.points.values())[: self.trials]
        self.again = deque(sorted(known, key=lambda point: point.outcome is not None))
        self.left = self.trials - len(known)
        self.queue: deque[tuple[Point, int]] = deque()
        self.running: dict[str, Point] = {}
        """Tune's trial id -> what it runs."""
        self.results: dict[int, list[PointOutcome]] = {}
        """Number of a point -> what its seeds gave so far."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores its searcher beside the trials, for a restore of its own that is not used here."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self.queue:
            point = self._next()
            if point is None:
                return Searcher.FINISHED
            self.queue.extend((point, seed) for seed in self.seeds)
        point, seed = self.queue.popleft()
        self.running[trial_id] = point
        return {"values": dict(point.values), "seed": seed, REPLAYED: bool(point.outcome and point.outcome.values)}

    def _next(self) -> Point | None:
        if self.again:
            return self.again.popleft()
        if self.left == 0:
            return None
        self.left -= 1
        return self.study.ask()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rows of an epoch carry no objective; the scheduler reads them, the search does not."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        point = self.running.pop(trial_id)
        outcomes = self.results.setdefault(point.number, [])
        outcomes.append(self._outcome(None if error else result))
        if len(outcomes) == len(self.seeds):
            self.study.tell(point, _over_seeds(self.results.pop(point.number)))

    def _outcome(self, result: Mapping[str, Any] | None) -> PointOutcome:
        if result is None or result.get("failure"):
            return FAILED
        if not result.get("complete"):
            return STOPPED
        values = tuple(float(result.get(objective.metric, math.nan)) for objective in self.objectives)
        if all(map(math.isfinite, values)):
            return PointOutcome(TrialState.COMPLETE, values)
        if not self.study.complete:
            missing = ", ".join(
                one.metric for one in self.objectives if not math.isfinite(result.get(one.metric, math.nan))
            )
            raise AreamError(
                f"search.objectives: a finished trial has no number for {missing}; "
                f"it has {', '.join(sorted(name for name in result if '/' in name))}"
            )
        return FAILED

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record and the artifact store are what a later run continues from."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a search continues by running its sweep again, not from a Tune checkpoint")


def _over_seeds(outcomes: Sequence[PointOutcome]) -> PointOutcome:
    """The mean over seeds, where all of them have a result."""
    for worse in (FAILED, STOPPED):
        if worse in outcomes:
            return worse
    columns = zip(*(outcome.values or () for outcome in outcomes), strict=True)
    return PointOutcome(TrialState.COMPLETE, tuple(statistics.fmean(column) for column in columns))
