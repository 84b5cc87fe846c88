"""The axes of a sweep: which keys vary, over what, and which part of a trial that concerns."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aream.config import plain
from aream.errors import ConfigError
from orchestrator.spec.constraints import Where
from orchestrator.text import show, telling

Values = dict[str, Any]
"""Axis key -> value."""
Kind = Literal["grid", "choice", "uniform", "loguniform", "int"]
KINDS: tuple[Kind, ...] = ("grid", "choice", "uniform", "loguniform", "int")
TRAINING_SECTIONS = ("data", "backbone", "method", "train")
VARIANT_SECTIONS = ("inference", "labels")
SEGMENTATION_SECTIONS = ("model", "train", "evaluate")


@dataclass(frozen=True)
class Axis:
    key: str
    kind: Kind
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    when: Where | None = None
    """Condition of the axis: where it is false, the axis does not exist. None: it always exists."""

    @property
    def listed(self) -> bool:
        return self.kind in ("grid", "choice")

    @property
    def variant(self) -> bool:
        """True if the axis leaves the training unchanged."""
        return self.key.split(".")[0] in VARIANT_SECTIONS

    def extremes(self) -> tuple[Any, Any]:
        return (self.values[0], self.values[-1]) if self.listed else (self.low, self.high)

    def candidates(self) -> tuple[Any, ...]:
        """Every listed value, or the ends of a range."""
        return self.values if self.listed else (self.low, self.high)

    def data(self) -> dict[str, Any]:
        """Return the axis as plain data to show to people."""
        fields = {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return fields | {"when": self.when.text} if self.when else {k: v for k, v in fields.items() if k != "when"}

    def decides(self, key: str) -> bool:
        """True if this axis varies the dotted key, the section around it, or its component."""
        around = self.key.removesuffix("name") if self.key.endswith(".name") else f"{self.key}."
        return key == self.key or key.startswith(around)


class ConditionError(ConfigError):
    """The ``when`` of an axis cannot be used."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def dependencies(axis: Axis, axes: Sequence[Axis]) -> list[Axis]:
    """The axes that the condition of ``axis`` reads."""
    names = list(axis.when.names()) if axis.when else []
    return [other for other in axes if any(other.decides(name) for name in names)]


def dependency_order(axes: Sequence[Axis]) -> list[Axis]:
    """The axes in their order, except that one comes after those its condition reads.

    Raises:
        ConditionError: conditions in a circle, or of a training axis on a variant axis.
    """
    ordered: list[Axis] = []
    waiting = list(axes)
    needed = {axis.key: dependencies(axis, axes) for axis in axes}
    for axis in axes:
        for other in needed[axis.key]:
            if other.variant and not axis.variant:
                raise ConditionError(axis.key, f"a training axis cannot depend on {other.key}, which varies within it")
    while waiting:
        ready = next((axis for axis in waiting if all(other in ordered for other in needed[axis.key])), None)
        if ready is None:
            circle = ", ".join(axis.key for axis in waiting)
            raise ConditionError(waiting[0].key, f"the conditions of {circle} wait for each other")
        ordered.append(ready)
        waiting.remove(ready)
    return ordered


def parse_axis(key: str, given: object, sections: tuple[str, ...]) -> Axis:
    """``{grid: [..]}``, ``{choice: [..]}``, ``{uniform: [low, high]}``, ``{loguniform: ..}``, ``{int: ..}``, or a list.

    Each but the last may carry ``when``, a condition.

    Raises:
        ConditionError: ``when`` is no condition.
        ConfigError: another form, an empty axis, equal values, or a range that holds nothing.
    """
    if key.split(".")[0] not in sections:
        raise ConfigError(f"an axis must belong to one of the sections {', '.join(sections)}")
    if isinstance(given, list):
        given = {"grid": given}
    when = None
    if isinstance(given, Mapping) and "when" in given:
        when = _condition(key, given["when"])
        given = {name: content for name, content in given.items() if name != "when"}
    if not isinstance(given, Mapping) or len(given) != 1 or next(iter(given)) not in KINDS:
        raise ConfigError(f"given {given!r}; need a list or one of {', '.join(KINDS)}, such as {{grid: [1, 2]}}")
    kind, content = next(iter(given.items()))
    if not isinstance(content, list) or not content:
        raise ConfigError(f"given {content!r}; need a list with at least one value")
    if kind in ("grid", "choice"):
        texts = [json.dumps(value, sort_keys=True) for value in content]
        if len(set(texts)) != len(texts):
            raise ConfigError(f"given {content!r}; duplicate value")
        return Axis(key, kind, values=tuple(content), when=when)
    numbers = [value for value in content if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(content) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ConfigError(f"given {content!r}; need [low, high] with low < high")
    low, high = numbers
    if kind == "loguniform" and low <= 0:
        raise ConfigError(f"given {content!r}; a logarithmic range starts above 0")
    if kind == "int" and not (float(low).is_integer() and float(high).is_integer()):
        raise ConfigError(f"given {content!r}; need whole numbers")
    if kind == "int":
        low, high = int(low), int(high)
    return Axis(key, kind, low=low, high=high, when=when)


def _condition(key: str, given: object) -> Where:
    if not isinstance(given, str):
        raise ConditionError(key, f"given {given!r}; need a condition, such as \"method.name == 'aream'\"")
    try:
        return Where(given)
    except ConfigError as error:
        raise ConditionError(key, str(error)) from error


def shown(values: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, str]:
    """Axis -> the value as a text, in which a component has the settings that vary on its axis and no others."""
    candidates = {axis.key: axis.candidates() for axis in axes}
    return {key: show(telling(value, candidates.get(key, ()))) for key, value in values.items()}


def product(axes: Sequence[Axis]) -> Iterator[Values]:
    """Points of listed axes, the last axis fastest."""
    for combination in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip((axis.key for axis in axes), combination, strict=True))
