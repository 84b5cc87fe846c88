"""The answer of a sweep's results to its question, in sentences: report, terminal and tracker show the same."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.results.effects import Difference, Effect, axis_effects, why_untold
from orchestrator.results.shared_seeds import Entry, lacking, seeds_of
from orchestrator.results.ties import Ties, ties
from orchestrator.spec.metrics import called, known, number
from orchestrator.spec.settings import Goal
from orchestrator.text import listed, short_names

SEGMENTER = "seg/miou"
ONE_SEED = "One seed: no difference can be told from seed noise"


def answer(entries: Sequence[Entry], axes: Sequence[str], rank: Goal) -> dict[str, Any]:
    """The answer as plain data for ``summary.json``.

    Args:
        entries: ranked configurations, best first, with ``config``, ``metrics``, ``spread`` and ``per_seed``.

    Returns:
        ``sentences`` to print; ``effects`` of the axes; ``ties``: positions that seed noise does not tell from the
        best, and the least difference that is told.
    """
    effects, found = axis_effects(entries, axes, rank), ties(entries, rank)
    told = _Telling(rank, short_names(axes))
    sentences = [told.nothing_ranked()] if not entries else []
    if entries and found.seeds < 2 and len(entries) > 1:
        sentences.append(f"{ONE_SEED}; with `--set 'seeds=[0, 1, 2]'` only the added seeds run.")
    by_size = sorted(
        effects, key=lambda effect: not any(pair.beyond for pair in effect.pairs)
    )  # stable: told ones first
    sentences += [told.effect(effect) for effect in by_size]
    sentences += told.apart(axes, effects, entries)
    sentences += told.lacking(entries)
    sentences += told.best(entries, found) if entries else []
    sentences += told.segmenters(entries)
    return {
        "metric": rank.metric,
        "sentences": sentences,
        "effects": [asdict(effect) for effect in effects],
        "ties": asdict(found),
    }


@dataclass(frozen=True)
class _Telling:
    rank: Goal
    names: Mapping[str, str]

    def figure(self, value: float) -> str:
        metric = known(self.rank.metric)
        return f"{value:.1f}" if metric is not None and metric.unit == "s" else f"{value:.3f}"

    def nothing_ranked(self) -> str:
        return f"No answer: no configuration has a number for {self.rank.metric}."

    def effect(self, effect: Effect) -> str:
        axis = self.names[effect.axis]
        lead = self._lead(effect)
        if lead is None:
            return self._no_difference(axis, effect)
        best = effect.values[0]
        tied = [value for value in effect.values if self._tied(effect.between(lead.value, value))]
        beside = ""
        if lead.value == best and len(effect.values) > 2:
            others = [value for value in effect.values if value not in (best, lead.over, *tied)]
            parts = [f"{listed(tied)} {'ties' if len(tied) == 1 else 'tie'} with {best}"] if tied else []
            parts += [f"{listed(others)} {'is' if len(others) == 1 else 'are'} behind too"] if others else []
            beside = "".join(f"; {part}" for part in parts)
        return f"{axis}: {self._difference(lead)}{beside}."

    def _lead(self, effect: Effect) -> Difference | None:
        """The difference to tell: the best value over the one that does nothing, else the widest that is told."""
        told = [pair for pair in effect.pairs if pair.beyond]
        best = effect.values[0]
        first = [pair for pair in told if (pair.value, pair.over) == (best, effect.reference)]
        return next(iter(first), max(told, key=lambda pair: abs(pair.mean), default=None))

    def _difference(self, pair: Difference) -> str:
        half = "" if pair.half is None else f" ± {self.figure(pair.half)}"
        size = f"{self.figure(abs(pair.mean))}{half}"
        seeds = f"in {pair.better} of {pair.seeds} seeds"
        if self.rank.mode == "max":
            return f"{pair.value} gains {size} over {pair.over}, {seeds}"
        return f"{pair.value} is {size} lower than {pair.over}, {seeds}"

    def _tied(self, pair: Difference | None) -> bool:
        return pair is not None and not pair.beyond

    def _no_difference(self, axis: str, effect: Effect) -> str:
        values = listed(effect.values)
        if not any(pair.better or pair.worse for pair in effect.pairs):  # as a training's metric over labels' settings
            return f"{axis}: {called(self.rank.metric)} is the same at {values}."
        widest = max(effect.pairs, key=lambda pair: abs(pair.mean))
        seen = f"{widest.value} is {self.figure(abs(widest.mean))} {self._ahead()} {widest.over}"
        if widest.half is None:
            return f"{axis}: {seen}."
        return (
            f"{axis}: no difference between {values} beyond seed noise ({seen}; {widest.seeds} seeds tell "
            f"differences over {self.figure(widest.half)})."
        )

    def _ahead(self) -> str:
        return "above" if self.rank.mode == "max" else "below"

    def apart(self, axes: Sequence[str], effects: Sequence[Effect], entries: Sequence[Entry]) -> list[str]:
        """The axes that vary and yet have no effect of their own to tell."""
        shown = {effect.axis for effect in effects}
        varied = [axis for axis in axes if len({repr(entry["config"].get(axis)) for entry in entries}) > 1]
        reasons: dict[str, list[str]] = {}
        for axis in varied:
            if axis not in shown:
                reasons.setdefault(why_untold(axis, entries), []).append(self.names[axis])
        return [f"{listed(left)}: no effect of its own is told, since {why}." for why, left in reasons.items()]

    def lacking(self, entries: Sequence[Entry]) -> list[str]:
        """Configurations that lack seeds, which others are compared with at fewer."""
        found = lacking(entries, self.rank.metric)
        if not found:
            return []
        each = [f"#{at + 1} seed{'s' * (len(own) > 1)} {listed(own)}" for at, own in found.items()]
        lack = "lacks" if len(found) == 1 else "lack"
        return [
            f"{len(found)} of {len(entries)} configurations {lack} a seed ({listed(each)}): differences are told at "
            "the seeds that both sides have."
        ]

    def best(self, entries: Sequence[Entry], found: Ties) -> list[str]:
        first = entries[0]
        value = number(self.rank.metric, first["metrics"][self.rank.metric], first["spread"].get(self.rank.metric))
        reached = f"{called(self.rank.metric)} {value}"
        if len(entries) == 1:
            return [f"One configuration: {reached}."]
        if found.least is None:
            highest = "Highest" if self.rank.mode == "max" else "Lowest"
            return [f"{highest} is #1 with {reached}; whether it is the best is not told."]
        if len(found.positions) == 1:
            return [f"#1 of {len(entries)} is the best beyond seed noise: {reached}."]
        others = listed([f"#{position + 1}" for position in found.positions[1:]])
        verb = "tie" if len(found.positions) > 2 else "ties"
        return [
            f"No winner: {others} {verb} with #1 of {len(entries)} ({reached}), their differences within "
            f"{self.figure(found.least)}."
        ]

    def segmenters(self, entries: Sequence[Entry]) -> list[str]:
        """The first trained segmenter's result, and whether it differs from the last one's."""
        places = [place for place, entry in enumerate(entries) if SEGMENTER in entry["metrics"]]
        if not places or self.rank.metric == SEGMENTER:
            return []
        goal = Goal(metric=SEGMENTER, mode="max")
        first, last = entries[places[0]], entries[places[-1]]
        value = number(SEGMENTER, first["metrics"][SEGMENTER], first["spread"].get(SEGMENTER))
        said = f"A segmenter on the labels of #{places[0] + 1}: {called(SEGMENTER)} {value}"
        seeds = sorted(seeds_of(first, SEGMENTER) & seeds_of(last, SEGMENTER), key=int)
        if len(places) == 1 or not seeds:
            return [f"{said}."]
        gains = [first["per_seed"][seed][SEGMENTER] - last["per_seed"][seed][SEGMENTER] for seed in seeds]
        told = ties(sorted((first, last), key=lambda entry: -goal.merit(entry["metrics"])), goal)
        mean, where = statistics.fmean(gains), f"of #{places[-1] + 1}"
        if told.least is None:
            return [f"{said}; {mean:+.3f} to those {where}, on one seed."]
        verdict = "beyond" if len(told.positions) == 1 else "within"
        return [f"{said}; {mean:+.3f} ± {told.least:.3f} to those {where}, {verdict} seed noise."]
