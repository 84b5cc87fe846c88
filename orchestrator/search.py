"""Where the next trial comes from: the grid's list, or Optuna, each point run at every seed."""

from __future__ import annotations

import json
import os
import pickle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from orchestrator.axes import Axis
from orchestrator.spec import Values
from orchestrator.state import replace_text

MAX_REJECTED = 1000
"""Points in a row that ``where`` may refuse before the search gives up."""


class ListedPoints(Searcher):
    """A fixed list of (values, seed), for the grid."""

    def __init__(self, points: Sequence[tuple[Values, int]]) -> None:
        super().__init__()
        self.points = deque(points)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if not self.points:
            return Searcher.FINISHED
        values, seed = self.points.popleft()
        return {"values": values, "seed": seed}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A list learns nothing from results."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_bytes(pickle.dumps(list(self.points)))

    def restore(self, checkpoint_path: str) -> None:
        self.points = deque(pickle.loads(Path(checkpoint_path).read_bytes()))


class SearchedPoints(Searcher):
    """Optuna's suggestions that satisfy ``where``, each repeated for every seed and told the mean over them.

    Suggestions are kept in a log file: the same sweep run again proposes them first and in that order, so what
    finished is answered from the store, and Optuna then goes on from all of it.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        allowed: Callable[[Values], bool],
        seeds: Sequence[int],
        trials: int,
        *,
        algorithm: str,
        metric: str,
        mode: str,
        seed: int,
        log_file: Path,
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        self.axes, self.allowed, self.seeds, self.trials = list(axes), allowed, tuple(seeds), trials
        self.log_file = log_file
        self.replay = deque(_read_log(log_file))
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        # The seed moves on with the log: the same one would draw the replayed points a second time.
        self.optuna = OptunaSearch(
            space={axis.key: _distribution(axis) for axis in axes},
            metric=metric,
            mode=mode,
            sampler=samplers[algorithm](seed=seed + len(self.replay)),
        )
        self.asked = 0
        self.asks: dict[str, str] = {}
        """Point -> Optuna's name for it: one that `where` refuses needs another name for the next try."""
        self.queue: deque[tuple[str, Values, int]] = deque()
        self.suggested = 0
        self.open: dict[str, str] = {}
        """Tune's trial id -> ours."""
        self.scores: dict[str, list[float | None]] = {}
        self.replayed: dict[str, Values] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        if not self.queue:
            if self.suggested == self.trials:
                return Searcher.FINISHED
            point = f"point{self.suggested}"
            if self.replay:
                values = self.replay.popleft()
                self.replayed[point] = values
            else:
                values = self._ask(point)
                _append_log(self.log_file, values)
            self.suggested += 1
            self.queue.extend((point, values, seed) for seed in self.seeds)
        point, values, seed = self.queue.popleft()
        self.open[trial_id] = point
        return {"values": values, "seed": seed}

    def _ask(self, point: str) -> Values:
        for _ in range(MAX_REJECTED):
            name, self.asked = f"ask{self.asked}", self.asked + 1
            raw = self.optuna.suggest(name)
            values = {axis.key: _value(axis, raw[axis.key]) for axis in self.axes}
            if self.allowed(values):
                self.asks[point] = name
                return values
            self.optuna.on_trial_complete(name, error=True)
        raise RuntimeError(f"{MAX_REJECTED} suggestions in a row break a `where` constraint; widen the axes or drop it")

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Rows of an epoch carry no rank metric; the scheduler reads them, the search does not."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        point = self.open.pop(trial_id)
        score = None if error or result is None else result.get(self.metric)
        scores = self.scores.setdefault(point, [])
        scores.append(score)
        if len(scores) < len(self.seeds):
            return
        complete = [value for value in scores if value is not None]
        if len(complete) < len(scores):  # failed or pruned: known to Optuna as a point without a value
            if point not in self.replayed:
                self.optuna.on_trial_complete(self.asks.pop(point), error=True)
            return
        mean = sum(complete) / len(complete)
        if point in self.replayed:
            raw = {axis.key: _raw(axis, self.replayed[point][axis.key]) for axis in self.axes}
            self.optuna.add_evaluated_point(raw, mean)
        else:
            self.optuna.on_trial_complete(self.asks.pop(point), {self.metric: mean, "training_iteration": 1})

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the log file and the store are what a later run continues from."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a search continues by running its sweep again, not from a Tune checkpoint")


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    if axis.kind in ("grid", "choice"):
        # Optuna's storages take plain scalars only, so choices go by their position.
        return optuna.distributions.CategoricalDistribution([str(index) for index in range(len(axis.values))])
    assert axis.low is not None  # set for every continuous kind
    assert axis.high is not None
    if axis.kind == "int":
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high))
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.kind == "loguniform")


def _value(axis: Axis, raw: Any) -> Any:
    return axis.values[int(raw)] if axis.kind in ("grid", "choice") else raw


def _raw(axis: Axis, value: Any) -> Any:
    if axis.kind in ("grid", "choice"):
        return str([json.dumps(known) for known in axis.values].index(json.dumps(value)))
    return value


def _read_log(path: Path) -> list[Values]:
    """Whole lines only: a driver killed while writing leaves a torn last one, which is cut off."""
    if not path.exists():
        return []
    whole, _, torn = path.read_text().rpartition("\n")
    if torn:
        replace_text(path, f"{whole}\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]


def _append_log(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())
