"""The points a search may propose: the training axes as Optuna's parameters, drawn one after the other."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import optuna

from aream.errors import ConfigError
from orchestrator.spec.axes import Axis, Values
from orchestrator.spec.spec import MAX_POINTS, SweepSpec

Parameters = dict[str, tuple[Any, optuna.distributions.BaseDistribution]]
"""Axis key -> what Optuna knows the value as, and what it is drawn from."""


def identity(values: Mapping[str, Any]) -> str:
    """One text for one point."""
    return json.dumps(values, sort_keys=True)


class SearchSpace:
    """The training axes as an Optuna search space: drawing points, checking ``where``, and Optuna's parameters."""

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self.axes = [axis for axis in spec.ordered_axes if not axis.variant]

    def draw(self, trial: optuna.Trial) -> Values:
        """A point, each axis asked for only where it exists."""
        values: Values = {}
        for axis in self.axes:
            if self.spec.present(axis, values):
                values[axis.key] = _suggested(axis, trial)
        return {axis.key: values[axis.key] for axis in self.spec.axes if axis.key in values}

    def violation(self, values: Values) -> float:
        """0 for a possible point that ``where`` allows, else how far it is from one."""
        missed = self.spec.violation(values)
        if missed == 0:
            try:
                self.spec.trial(values, self.spec.seeds[0])
            except ConfigError:
                return 1.0
        return missed

    def parameters(self, values: Values) -> Parameters | None:
        """Return a point as Optuna's parameters; None for one of other axes, values or constraints."""
        parameters: Parameters = {}
        before: Values = {}
        for axis in self.axes:
            if self.spec.present(axis, before) is not (axis.key in values):
                return None
            if axis.key in values:
                raw, distribution = _raw(axis, values[axis.key]), _distribution(axis)
                if raw is None:
                    return None
                before[axis.key], parameters[axis.key] = values[axis.key], (raw, distribution)
        return parameters if len(parameters) == len(values) and self.violation(values) == 0 else None

    @functools.cached_property
    def points(self) -> dict[str, Values] | None:
        """All points that ``where`` allows, by identity; None where there are too many, or a range has no steps."""
        count = 1
        for axis in self.axes:
            steps = _steps(axis)
            count *= len(steps) if steps is not None else MAX_POINTS + 1
            if count > MAX_POINTS:
                return None
        every = self.spec.points_over(lambda axis: _steps(axis) or ())
        return {identity(values): values for values in every if self.violation(values) == 0}


def _steps(axis: Axis) -> range | tuple[Any, ...] | None:
    if axis.listed:
        return axis.values
    assert axis.low is not None  # set for every range
    assert axis.high is not None
    return range(int(axis.low), int(axis.high) + 1) if axis.kind == "int" else None


def _texts(axis: Axis) -> list[str]:
    # Optuna takes plain scalars only, and 1, 1.0 and true as one.
    return [json.dumps(value, sort_keys=True) for value in axis.values]


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    if axis.listed:
        return optuna.distributions.CategoricalDistribution(_texts(axis))
    assert axis.low is not None
    assert axis.high is not None
    if axis.kind == "int":
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high))
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.kind == "loguniform")


def _suggested(axis: Axis, trial: optuna.Trial) -> Any:
    if axis.listed:
        texts = _texts(axis)
        return axis.values[texts.index(trial.suggest_categorical(axis.key, texts))]
    assert axis.low is not None
    assert axis.high is not None
    if axis.kind == "int":
        return trial.suggest_int(axis.key, int(axis.low), int(axis.high))
    return trial.suggest_float(axis.key, axis.low, axis.high, log=axis.kind == "loguniform")


def _raw(axis: Axis, value: Any) -> Any:
    """Return Optuna's form of a value; None if the axis does not hold it."""
    if axis.listed:
        text = json.dumps(value, sort_keys=True)
        return text if text in _texts(axis) else None
    assert axis.low is not None
    assert axis.high is not None
    if isinstance(value, bool) or not isinstance(value, int if axis.kind == "int" else int | float):
        return None
    return value if axis.low <= value <= axis.high else None
