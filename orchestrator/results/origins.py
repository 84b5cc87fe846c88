"""Code, torch version and device behind a sweep's results, from their records; and where these are mixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.results.records import Records
from workers.artifacts.record import ArtifactRecord
from workers.stage import Stage
from workers.stage_source import component_modules, source_digest

COMPARED = {"source": "code", "torch": "versions of torch", "device": "devices"}
"""Origins that must be the same for all compared results of a stage."""
UNKNOWN = "unknown"


def by_other_code(stages: Iterable[Stage], records: Records) -> dict[str, int]:
    """Stage name -> how many are stored whose code was another than today's under the same ``VERSION``."""
    counts = Counter(
        stage.name
        for stage in stages
        if records.has(stage.key) and records.record(stage.key).source != source_digest(stage)
    )
    return dict(sorted(counts.items()))


def other_code_sentence(counts: Mapping[str, int]) -> str:
    """Empty where there is none."""
    if not counts:
        return ""
    which = ", ".join(f"{name} {number}" for name, number in counts.items())
    return (
        f"{sum(counts.values())} stored by other code ({which}): no VERSION was raised for the change, so they are "
        "taken as they are; --fresh computes them anew"
    )


def origins(stages: Iterable[Stage], records: Records) -> list[dict[str, Any]]:
    """Origins of the stored stages and of all they need: a row per stage, components and origin, with its count."""
    stored = {one.key: one for stage in stages for one in stage.ancestry() if records.has(one.key)}
    counts = Counter(
        (one.name, _named(one), *origin_of(records.record(key)).values()) for key, one in sorted(stored.items())
    )
    names = ("stage", "components", "version", "source", "code", "torch", "device")
    return [dict(zip(names, row, strict=True)) | {"count": number} for row, number in sorted(counts.items())]


def _named(stage: Stage) -> str:
    """The components whose code the stage runs too: a method, a host."""
    return ", ".join(module.rpartition(".")[2] for module in component_modules(stage))


def origin_of(record: ArtifactRecord) -> dict[str, str]:
    """The record's origin as texts: VERSION, digest of the source, revision, torch, device."""
    return {
        "version": str(record.version),
        "source": record.source or UNKNOWN,
        "code": record.code,
        "torch": record.versions.get("torch", UNKNOWN),
        "device": record.device or UNKNOWN,
    }


def mixed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each thing that is not one among the results of a stage."""
    sentences = []
    for name, what in COMPARED.items():
        found: dict[tuple[str, str], dict[str, int]] = {}
        for row in rows:
            value = row["code"] if name == "source" and row[name] == UNKNOWN else row[name]
            # Two methods are two pieces of code, and no reason to distrust their comparison.
            alike = row["stage"], row["components"] if name == "source" else ""
            counts = found.setdefault(alike, {})
            counts[value] = counts.get(value, 0) + row["count"]
        several = {stage: counts for stage, counts in found.items() if len(counts) > 1}
        if several:
            where = "; ".join(
                f"{stage}: {', '.join(f'{value} ({number})' for value, number in sorted(counts.items()))}"
                for (stage, _), counts in several.items()
            )
            sentences.append(f"results of several {what} are compared: {where}")
    return sentences
