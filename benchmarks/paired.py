"""Means over seeds with their spread, and differences that are paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from scipy import stats

Rows = Mapping[str, Mapping[str, float]]
"""Seed -> metric -> value."""


def spread(rows: Rows, metric: str) -> str:
    return mean_and_spread([row[metric] for row in rows.values()])


def change(rows: Rows, baseline: Rows, metric: str) -> str:
    """Against the baseline of the same seed."""
    return mean_and_spread(differences(rows, baseline, metric), sign="+")


def differences(rows: Rows, baseline: Rows, metric: str) -> list[float]:
    return [rows[seed][metric] - baseline[seed][metric] for seed in rows if seed in baseline]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % confidence interval of the mean; None of fewer than two values."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    return f"{fmean(values):{sign}.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def paired(values: Sequence[float]) -> str:
    """A mean of differences; with a ``*`` where its 95 % interval excludes 0."""
    limits = interval(values)
    sure = limits is not None and (limits[0] > 0 or limits[1] < 0)
    return mean_and_spread(values, "+") + (" *" if sure else "")
