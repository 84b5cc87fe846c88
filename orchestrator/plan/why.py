"""Explain why a stage has to run by its differences from the nearest stored result of its kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aream.config import canonical
from workers.artifacts.record import ArtifactRecord
from workers.processes.hardware import computed_on
from workers.stage import Stage

ABSENT = "nothing"
MOST = 3
"""Differences that are written out."""


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
    kinds: dict[str, list[tuple[ArtifactRecord, dict[str, str]]]] = {}
    for record in records:
        kinds.setdefault(record.stage, []).append((record, _of_record(record)))
    return [_reason(stage, kinds.get(stage.name, [])) for stage in stages]


def _reason(stage: Stage, kin: list[tuple[ArtifactRecord, dict[str, str]]]) -> Reason:
    asked = _of_stage(stage)
    found = [(tuple(_differences(stored, asked)), record) for record, stored in kin]
    if not found:
        return Reason(stage.key, None)
    fewest = min(len(differences) for differences, _ in found)
    near = [(record.created, record.key, differences) for differences, record in found if len(differences) == fewest]
    _, key, differences = max(near)
    return Reason(stage.key, key, differences)


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
