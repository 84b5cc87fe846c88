"""Effect of each axis on the rank metric: differences between its values, paired by seed, all else equal."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from orchestrator.results.shared_seeds import Entry, Seeds, every_seed, most_compared, seeds_of
from orchestrator.spec.settings import Goal
from orchestrator.text import show, telling

LEVEL = 0.95
"""Of all intervals of one axis together."""
MOST_VALUES = 30
"""Values of an axis that are compared; the axes of a search have more, and seldom two configurations at one."""
ABSENT = "absent"
Cell = tuple[list[Entry], list[Entry]]
"""Configurations at one value and at another, equal in all else that both values have."""


@dataclass(frozen=True)
class Difference:
    """Of the rank metric, one value of an axis minus another."""

    value: str
    over: str
    mean: float
    half: float | None
    """Half the interval's width; None with one seed."""
    seeds: int
    better: int
    """Seeds at which ``value`` is the better one."""
    worse: int
    """Those at which it is the worse one."""
    beyond: bool
    """True where the interval leaves 0 out: seed noise alone does not explain the difference."""


@dataclass(frozen=True)
class Effect:
    axis: str
    values: tuple[str, ...]
    """Best first."""
    reference: str
    """The value that stands for doing nothing, else the worst one."""
    pairs: tuple[Difference, ...]
    """Any two values that some configurations differ in alone, the better one first."""

    def between(self, value: str, over: str) -> Difference | None:
        return next((pair for pair in self.pairs if {pair.value, pair.over} == {value, over}), None)


def half_width(spread: float, seeds: int, comparisons: int, freedom: int) -> float | None:
    """Half the width of each of so many intervals that hold together (Bonferroni, Student's t); None with one seed.

    Args:
        spread: standard deviation of a difference between seeds.
        freedom: degrees of freedom behind ``spread``.
    """
    if seeds < 2:
        return None
    return float(stdtrit(freedom, 1 - (1 - LEVEL) / (2 * comparisons))) * spread / math.sqrt(seeds)


def axis_effects(entries: Sequence[Entry], axes: Sequence[str], rank: Goal) -> list[Effect]:
    """The effect of each axis that has two values with configurations that differ in it alone.

    Axes that exist with only one of two values are averaged over, so a method that has settings of its own is compared
    at their mean, not at the best of them. The spread of the differences is pooled over the pairs of values, as in a
    randomised block design with seeds as blocks: (values - 1) (seeds - 1) degrees of freedom. Where configurations
    lack seeds, two values are compared at those that most of theirs have, two at least.
    """
    least = min(2, len(every_seed(entries, rank.metric)))
    effects = [_effect(axis, entries, least, rank) for axis in axes]
    return [effect for effect in effects if effect is not None]


def why_untold(axis: str, entries: Sequence[Entry]) -> str:
    """Why an axis that varies has no effect."""
    groups = _groups(axis, entries)
    if len(groups) > MOST_VALUES:
        return f"axes of more than {MOST_VALUES} values are not compared"
    if any(_cells(axis, groups[one], groups[other]) for one, other in itertools.combinations(groups, 2)):
        return "configurations that differ in it alone have fewer than two seeds in common"
    return "no two configurations differ in it alone"


def _groups(axis: str, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Configurations by their value of the axis; those without it are left out."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if axis in entry["config"]:
            groups.setdefault(json.dumps(entry["config"][axis], sort_keys=True), []).append(entry)
    return groups


def _effect(axis: str, entries: Sequence[Entry], least: int, rank: Goal) -> Effect | None:
    groups = _groups(axis, entries)
    if not 2 <= len(groups) <= MOST_VALUES:
        return None
    sign = 1.0 if rank.mode == "max" else -1.0
    found = {
        (one, other): gains
        for one, other in itertools.combinations(groups, 2)
        if (gains := _by_seed(_cells(axis, groups[one], groups[other]), least, rank.metric, sign)) is not None
    }
    if not found:
        return None
    texts = _texts(axis, groups)
    merits = {key: statistics.fmean(_signed(found, key)) for key in groups if _signed(found, key)}
    order = sorted(merits, key=lambda key: -merits[key])
    spread, fewest = _spread(list(found.values())), min(map(len, found.values()))
    pairs = []
    for (one, other), gains in found.items():
        mean = statistics.fmean(gains)
        better, worse, own = (one, other, gains) if mean >= 0 else (other, one, [-gain for gain in gains])
        ahead, behind = sum(gain > 0 for gain in own), sum(gain < 0 for gain in own)
        half = half_width(spread, len(own), len(found), (len(order) - 1) * (fewest - 1))
        beyond = half is not None and abs(mean) > half
        pairs.append(Difference(texts[better], texts[worse], sign * abs(mean), half, len(own), ahead, behind, beyond))
    idle = [key for key in order if _does_nothing(groups[key][0], axis)]
    reference = idle[0] if len(idle) == 1 else order[-1]
    return Effect(axis, tuple(texts[key] for key in order), texts[reference], tuple(pairs))


def _spread(found: Sequence[Sequence[float]]) -> float:
    """Standard deviation of the differences between seeds, pooled over the pairs of values; 0 with one seed."""
    told = [gains for gains in found if len(gains) > 1]
    freedom = sum(len(gains) - 1 for gains in told)
    return math.sqrt(sum((len(g) - 1) * statistics.variance(g) for g in told) / freedom) if freedom else 0.0


def _cells(axis: str, ones: Sequence[Entry], others: Sequence[Entry]) -> list[Cell]:
    """One value's configurations beside another's, by everything else that both were tried with."""
    own, theirs = ({key for entry in entries for key in entry["config"]} for entries in (ones, others))
    keys = sorted((own & theirs) - {axis})
    cells: dict[str, Cell] = {}
    for side, entries in enumerate((ones, others)):
        for entry in entries:
            rest = json.dumps([entry["config"].get(key, ABSENT) for key in keys], sort_keys=True)
            cells.setdefault(rest, ([], []))[side].append(entry)
    return [cell for cell in cells.values() if all(cell)]


def _by_seed(cells: Sequence[Cell], least: int, metric: str, sign: float) -> list[float] | None:
    """Gain of one value over another at each seed that is compared, mean over the cells."""

    def having(seeds: Seeds) -> list[Cell]:
        found = [tuple([entry for entry in side if seeds <= seeds_of(entry, metric)] for side in c) for c in cells]
        return [(one, other) for one, other in found if one and other]

    sides = [{seeds_of(entry, metric) for cell in cells for entry in cell[side]} for side in (0, 1)]
    candidates = {one & other for one in sides[0] for other in sides[1]}
    seeds = most_compared(candidates, lambda own: sum(len(a) + len(b) for a, b in having(own)), least)
    if seeds is None:
        return None
    matched = having(seeds)

    def mean(entries: Sequence[Entry], seed: str) -> float:
        return statistics.fmean(entry["per_seed"][seed][metric] for entry in entries)

    return [
        sign * statistics.fmean(mean(one, seed) - mean(other, seed) for one, other in matched)
        for seed in sorted(seeds, key=int)
    ]


def _signed(found: Mapping[tuple[str, str], Sequence[float]], key: str) -> list[float]:
    """Mean gains of a value over each that it is compared with."""
    return [statistics.fmean(gains) * (1 if pair[0] == key else -1) for pair, gains in found.items() if key in pair]


def _texts(axis: str, groups: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    values = {key: entries[0]["config"][axis] for key, entries in groups.items()}
    return {key: show(telling(value, list(values.values()))) for key, value in values.items()}


def _does_nothing(entry: Entry, axis: str) -> bool:
    value = entry["config"][axis]
    name = value.get("name") if isinstance(value, Mapping) else value
    return name in (None, "none") or (axis in ("method", "method.name") and bool(entry.get("without_loss")))
