"""Compare each configuration with the baseline at the same seeds: noise that a seed brings to both cancels."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.spec.settings import Goal
from workers.pipelines import BASELINE, trains_as

ENOUGH_SEEDS = 3
"""Fewer say nothing about chance."""
Axes = tuple[str, ...]


def paired_differences(entries: Sequence[Mapping[str, Any]], rank: Goal) -> list[dict[str, Any] | None]:
    """Return, for each ranked entry (best first), the per-seed differences of its rank metric to its baseline.

    The baseline is the best entry whose method adds nothing to the host, all axes outside the method equal. None for
    the baseline itself, where there is no such entry, or no seed that both have.
    """
    baselines: dict[Axes, dict[str, int]] = {}
    for position, entry in enumerate(entries):
        if without_loss(entry["method"]):
            keys = tuple(sorted(key for key in entry["config"] if key.split(".")[0] != "method"))
            baselines.setdefault(keys, {}).setdefault(_values(entry["config"], keys), position)
    found: list[dict[str, Any] | None] = []
    for position, entry in enumerate(entries):
        other = _baseline(entry["config"], baselines)
        if other is None or other == position:
            found.append(None)
        else:
            found.append(_difference(entry, entries[other], other, rank))
    return found


def _baseline(config: Mapping[str, Any], baselines: Mapping[Axes, Mapping[str, int]]) -> int | None:
    """Of those whose axes all stand at the same values; an axis that exists only with another method is no
    difference."""
    same = (known.get(_values(config, keys)) for keys, known in baselines.items() if config.keys() >= set(keys))
    return min((position for position in same if position is not None), default=None)


def _values(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    return json.dumps([config[key] for key in keys], sort_keys=True)


def _difference(
    entry: Mapping[str, Any], baseline: Mapping[str, Any], position: int, rank: Goal
) -> dict[str, Any] | None:
    differences = {
        seed: own[rank.metric] - baseline["per_seed"][seed][rank.metric]
        for seed, own in sorted(entry["per_seed"].items(), key=lambda item: int(item[0]))
        if rank.metric in own and rank.metric in baseline["per_seed"].get(seed, {})
    }
    if not differences:
        return None
    values = list(differences.values())
    better = [rank.merit(entry["per_seed"][seed]) > rank.merit(baseline["per_seed"][seed]) for seed in differences]
    return {
        "baseline": position,
        "metric": rank.metric,
        "differences": differences,
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "better": sum(better) if len(values) >= ENOUGH_SEEDS else None,
    }


def without_loss(method: str) -> bool:
    """True if a method adds nothing to the training of its host: the baseline of the others."""
    return trains_as(method) == BASELINE.name
