"""Explain why a stage has to run by its differences from the nearest stored result of its kind."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aream.config import canonical
from workers.artifacts.record import ArtifactRecord
from workers.processes.hardware import computed_on
from workers.stage import Stage

ABSENT = "nothing"
MOST = 3
"""Differences that are written out."""
MOST_ENTRIES = 1_000_000
"""Entries of a table, some hundred bytes each."""
Place = tuple[str, ...]
"""Values of the fields in which the stored results of a kind differ."""
Hidden = tuple[tuple[int, ...], Place]
K = TypeVar("K")


@dataclass(frozen=True)
class Difference:
    field: str
    """Dotted, such as ``train.epochs``, ``input host`` or ``fingerprint data``."""
    stored: str
    asked: str


@dataclass(frozen=True)
class Reason:
    key: str
    """Key of the stage to run."""
    nearest: str | None
    """Key of the stored result with the fewest differences; None: none of its kind is stored."""
    differences: tuple[Difference, ...] = ()

    @property
    def words(self) -> str:
        if self.nearest is None:
            return "no result of its kind is stored"
        told = [f"{one.field}: {one.asked} (stored: {one.stored})" for one in self.differences[:MOST]]
        more = len(self.differences) - len(told)
        return f"unlike {self.nearest} in {'; '.join(told)}{f'; and {more} more' if more else ''}"


def reasons(stages: Iterable[Stage], records: Iterable[ArtifactRecord]) -> list[Reason]:
    """Compare each stage with the nearest record of its kind; of equally near ones the last computed."""
    kinds: dict[str, list[ArtifactRecord]] = {}
    for record in records:
        kinds.setdefault(record.stage, []).append(record)
    kin = {name: _Kin(found) for name, found in kinds.items()}
    return [_reason(stage, kin.get(stage.name)) for stage in stages]


def _reason(stage: Stage, kin: _Kin | None) -> Reason:
    if kin is None:
        return Reason(stage.key, None)
    asked = _of_stage(stage)
    nearest = kin.nearest(asked)
    return Reason(stage.key, nearest.key, tuple(_differences(_of_record(nearest), asked)))


class _Kin:
    """The stored results of one kind.

    What a sweep asks for differs from one of them in few fields: with so many hidden the two are one, and a table finds
    it. Compared one by one they are only where that would take more than a comparison with each.
    """

    def __init__(self, records: Sequence[ArtifactRecord]) -> None:
        fields = [_of_record(record) for record in records]
        names = sorted({name for each in fields for name in each})
        # By a field that all have alike, none is nearer than another.
        self.names = [name for name in names if len({each.get(name, ABSENT) for each in fields}) > 1]
        self.last: dict[Place, ArtifactRecord] = {}
        """The last computed of those that are alike."""
        for each, record in zip(fields, records, strict=True):
            _keep_last(self.last, self._place(each), record)
        self.tables: list[dict[Hidden, ArtifactRecord]] = []
        """By number of hidden fields."""

    def nearest(self, asked: Mapping[str, str]) -> ArtifactRecord:
        place = self._place(asked)
        for hidden in range(len(self.names)):
            ways = math.comb(len(self.names), hidden)
            if ways > len(self.last) or ways * len(self.last) > MOST_ENTRIES:
                break
            if hidden == len(self.tables):
                self.tables.append(self._table(hidden))
            found = [self.tables[hidden].get(part) for part in _hiding(place, hidden)]
            if near := [record for record in found if record is not None]:
                return max(near, key=_age)
        apart = {stored: _apart(stored, place) for stored in self.last}
        fewest = min(apart.values())
        return max((self.last[stored] for stored, count in apart.items() if count == fewest), key=_age)

    def _place(self, fields: Mapping[str, str]) -> Place:
        return tuple(fields.get(name, ABSENT) for name in self.names)

    def _table(self, hidden: int) -> dict[Hidden, ArtifactRecord]:
        table: dict[Hidden, ArtifactRecord] = {}
        for place, record in self.last.items():
            for part in _hiding(place, hidden):
                _keep_last(table, part, record)
        return table


def _hiding(place: Place, count: int) -> Iterator[Hidden]:
    """Each choice of so many fields, with the values of the others."""
    for chosen in itertools.combinations(range(len(place)), count):
        yield chosen, tuple(value for index, value in enumerate(place) if index not in chosen)


def _apart(one: Place, other: Place) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _age(record: ArtifactRecord) -> tuple[str, str]:
    return record.created, record.key


def _keep_last(known: dict[K, ArtifactRecord], key: K, record: ArtifactRecord) -> None:
    if key not in known or _age(known[key]) < _age(record):
        known[key] = record


def _differences(stored: Mapping[str, str], asked: Mapping[str, str]) -> Iterator[Difference]:
    for field in sorted(stored.keys() | asked.keys()):
        old, new = stored.get(field, ABSENT), asked.get(field, ABSENT)
        if old != new:
            yield Difference(field, old, new)


def _of_stage(stage: Stage) -> dict[str, str]:
    parts = stage.module.COMPUTES_ON
    inputs = {name: needed.key for name, needed in stage.inputs.items()}
    device = computed_on(stage.hardware, parts)
    return _fields(stage.module.VERSION, canonical(stage.config), stage.fingerprints, inputs, device)


def _of_record(record: ArtifactRecord) -> dict[str, str]:
    device = record.device.partition(":")[0]
    return _fields(record.version, record.config, record.fingerprints, record.inputs, device)


def _fields(
    version: int, config: Any, fingerprints: Mapping[str, str], inputs: Mapping[str, str], device: str
) -> dict[str, str]:
    return {
        "version of the stage": str(version),
        "computed on": device,
        **{f"fingerprint {name}": value[:16] for name, value in fingerprints.items()},
        **{f"input {name}": key for name, key in inputs.items()},
        **dict(_flat("", config)),
    }


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Dotted keys as in a sweep file, where the settings of a component stand beside its name."""
    if isinstance(value, Mapping) and value.keys() == {"name", "config"} and isinstance(value["config"], Mapping):
        value = {"name": value["name"], **value["config"]}
    if isinstance(value, Mapping) and value:
        for inner, item in value.items():
            yield from _flat(f"{key}.{inner}" if key else inner, item)
    else:
        yield key, json.dumps(value)
