"""The axes of a sweep: which keys vary, over what, and which part of a trial that concerns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aream.errors import ConfigError

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

    @property
    def listed(self) -> bool:
        return self.kind in ("grid", "choice")

    @property
    def variant(self) -> bool:
        """Whether it leaves the training as it is."""
        return self.key.split(".")[0] in VARIANT_SECTIONS

    def extremes(self) -> tuple[Any, Any]:
        return (self.values[0], self.values[-1]) if self.listed else (self.low, self.high)


def parse_axis(key: str, given: object, sections: tuple[str, ...]) -> Axis:
    """``{grid: [..]}``, ``{choice: [..]}``, ``{uniform: [low, high]}``, ``{loguniform: ..}``, ``{int: ..}``, or a list.

    Raises:
        ConfigError: another form, an empty axis, equal values, or a range that holds nothing.
    """
    if key.split(".")[0] not in sections:
        raise ConfigError(f"an axis must belong to one of the sections {', '.join(sections)}")
    if isinstance(given, list):
        given = {"grid": given}
    if not isinstance(given, Mapping) or len(given) != 1 or next(iter(given)) not in KINDS:
        raise ConfigError(f"given {given!r}; need a list or one of {', '.join(KINDS)}, such as {{grid: [1, 2]}}")
    kind, content = next(iter(given.items()))
    if not isinstance(content, list) or not content:
        raise ConfigError(f"given {content!r}; need a list with at least one value")
    if kind in ("grid", "choice"):
        texts = [json.dumps(value, sort_keys=True) for value in content]
        if len(set(texts)) != len(texts):
            raise ConfigError(f"given {content!r}; a value stands twice")
        return Axis(key, kind, values=tuple(content))
    numbers = [value for value in content if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(content) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ConfigError(f"given {content!r}; need [low, high] with low < high")
    low, high = numbers
    if kind == "loguniform" and low <= 0:
        raise ConfigError(f"given {content!r}; a logarithmic range starts above 0")
    if kind == "int" and not (float(low).is_integer() and float(high).is_integer()):
        raise ConfigError(f"given {content!r}; need whole numbers")
    return Axis(key, kind, low=low, high=high)
