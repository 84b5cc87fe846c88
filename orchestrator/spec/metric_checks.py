"""Check, before anything runs, that a sweep will compute the metrics its file names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from aream.errors import ConfigError
from orchestrator.spec.metrics import TRAINING, better, downstream, every, every_epoch, known, results
from orchestrator.text import listed, show
from workers import analysis
from workers.metric import Better, found, one
from workers.trial import TrialConfig

if TYPE_CHECKING:
    from orchestrator.spec.axes import Values
    from orchestrator.spec.spec import SweepSpec

Point = tuple["Values", TrialConfig]
Names = Callable[[TrialConfig], list[str]]


class RankedMetric(Protocol):
    """A part of a sweep file that names a metric to rank by."""

    @property
    def metric(self) -> str: ...
    @property
    def mode(self) -> Better | None: ...


def problems(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """Keys that name a metric which the sweep does not make where it is needed, and what is wrong with each.

    What is ranked, searched for or scheduled by must be there at every point of the axes.
    """
    for key, ranked in _ranked_metrics(spec):
        names: Names = every_epoch if key == "scheduler" else lambda trial: _comparable(spec, trial)
        if (message := _missing(spec, ranked.metric, names)) is not None:
            yield f"{key}.metric", message
        elif ranked.mode is None and better(ranked.metric) is None:
            yield f"{key}.mode", f"missing; {ranked.metric} has no better end: need 'max' or 'min'"
    for index, row in enumerate(spec.paper.rows if spec.paper else ()):
        if (message := _unpublished(spec, row.metric)) is not None:
            yield f"paper.rows[{index}].metric", message
    for index, other in enumerate(spec.paper.context if spec.paper else ()):
        if (message := _unpublished(spec, other.metric)) is not None:
            yield f"paper.context[{index}].metric", message


def remarks(spec: SweepSpec) -> list[str]:
    """Warnings about settings that are allowed but seldom meant."""
    return [*_equal_by_rank(spec), *_bad_ends(spec)]


def _equal_by_rank(spec: SweepSpec) -> Iterator[str]:
    """Labels of one training, ranked by a metric of that training."""
    entry = found(spec.rank.metric, every())
    axes = [axis.key for axis in spec.axes if axis.variant and len(axis.values) > 1]
    if axes and entry is not None and entry.stage == TRAINING:
        yield (
            f"rank.metric: given {spec.rank.metric}, which is of a training; what differs in {listed(axes)} alone is "
            "equal by it, and what is listed first counts as the best"
        )


def _bad_ends(spec: SweepSpec) -> list[str]:
    return [
        f"{key}.mode: given {ranked.mode}, but {ranked.metric} is better the {'higher' if good == 'max' else 'lower'}; "
        f"the {'highest' if ranked.mode == 'max' else 'lowest'} will count as the best"
        for key, ranked in _ranked_metrics(spec)
        if ranked.mode is not None and (good := better(ranked.metric)) is not None and good != ranked.mode
    ]


def _ranked_metrics(spec: SweepSpec) -> Iterator[tuple[str, RankedMetric]]:
    yield "rank", spec.rank
    for index, objective in enumerate(spec.search.objectives if spec.search else ()):
        yield f"search.objectives[{index}]", objective
    if spec.scheduler:
        yield "scheduler", spec.scheduler


def _points(spec: SweepSpec, metric: str) -> list[Point]:
    """Trials that may differ in whether they have a metric: one of each combination of what decides about it."""
    points: list[Values] = [{}]
    if any(entry.metric.members is not one and entry.metric.called(metric) for entry in every()):
        keys = [axis.key for axis in spec.axes if axis.key.split(".")[0] == "backbone"]
        points = spec.points_of(["method.name", "train.out_of_memory", *keys])
    trials = []
    for values in points:
        try:
            trials.append((values, spec.trial(values, spec.seeds[0])))
        except ConfigError:  # impossible without the other axes' values
            continue
    return trials or [(values, spec.trial(values, spec.seeds[0])) for values in list(spec.extreme_points())[:1]]


def _comparable(spec: SweepSpec, trial: TrialConfig) -> list[str]:
    """Metrics that can rank configurations; not the GPU seconds without a GPU, where all are 0."""
    same = () if spec.resources.trial.gpu else ("cost/gpu_seconds",)
    return [name for name in results(trial, spec.analyses) if name not in same]


def _missing(spec: SweepSpec, metric: str, names: Names) -> str | None:
    """Explain why a metric cannot be used for ranking, and which can; None: it can."""
    points = _points(spec, metric)
    made = [names(trial) for _, trial in points]
    without = [values for (values, _), here in zip(points, made, strict=True) if metric not in here]
    if not without:
        return None
    allowed = [name for name in made[0] if all(name in here for here in made)]
    if len(without) < len(points):
        why = f"there is none where {', '.join(f'{key}={show(value)}' for key, value in without[0].items())}"
    elif known(metric) is not None and names is every_epoch:
        why = "it is not reported every epoch of a training"
    else:
        why = _absent(spec, metric)
    return f"given {metric}; {why}{_meant(metric, allowed)}; allowed are {', '.join(_shortened(allowed))}"


def _absent(spec: SweepSpec, metric: str) -> str:
    """Explain why no configuration of the sweep has a metric."""
    entry = found(metric, every())
    if entry is None:
        return "there is no such metric"
    if metric in downstream():
        return "it is measured after the ranking, on segmenters trained with the best labels"
    if metric == "cost/gpu_seconds":
        return "trials of this sweep get no GPU"
    if entry.stage in [one.name for one in spec.analyses]:
        return f"{entry.stage} measures nothing of that name in this sweep"
    if entry.stage in analysis.names():
        return f"it comes from {entry.stage}, which `analyses` does not name"
    if not entry.metric.result:
        return "it is reported while a training runs, and is no result of it"
    return f"it is of a single {entry.stage}, not of a configuration"


def _unpublished(spec: SweepSpec, metric: str) -> str | None:
    """Explain why the sweep has no result to compare with a published number; None: it has one."""
    allowed = list(dict.fromkeys(name for _, trial in _points(spec, metric) for name in _results(spec, trial)))
    if metric in allowed:
        return None
    why = _absent(spec, metric)
    if metric in downstream():
        made_elsewhere = spec.segmentation_data is not None
        why = "the segmenter's labels are made elsewhere" if made_elsewhere else "the sweep has no segmentation section"
    return f"given {metric}; {why}{_meant(metric, allowed)}; the sweep measures {', '.join(_shortened(allowed))}"


def _results(spec: SweepSpec, trial: TrialConfig) -> list[str]:
    """Metrics of a configuration once everything has run, its segmenter included."""
    segmenters = [] if spec.segmentation_data is None else map(spec.segmentation_config, spec.segmentation_points())
    trained = any(segmenter.labels is None for segmenter in segmenters)
    return [*results(trial, spec.analyses), *(downstream() if trained else ())]


def _meant(metric: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(metric, allowed, n=1) if known(metric) is None else []
    return f" (did you mean {close[0]}?)" if close else ""


def _shortened(names: Sequence[str]) -> list[str]:
    """Many members of one family as its first and its last."""
    families: dict[str, list[str]] = {}
    for name in names:
        metric = known(name)
        families.setdefault(metric.name if metric is not None else name, []).append(name)
    return [
        text
        for members in families.values()
        for text in (members if len(members) < 3 else [f"{members[0]} to {members[-1]}"])
    ]
