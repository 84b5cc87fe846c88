"""Metrics of the stages: each is declared once, in the file of the stage that computes it, and found from there.

A stage's ``METRICS`` names all that its ``run`` returns and all that it reports every epoch. Whatever chooses, checks
or shows a metric by its name asks this list.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aream import backbones, discover, methods
from aream.methods.protocol import says
from workers import stages
from workers.components import backbone_shape

if TYPE_CHECKING:
    from workers.trial import TrialConfig

Better = Literal["max", "min"]


def one(trial: TrialConfig) -> tuple[str, ...]:
    """The members of a metric that is no family: a single one without a name of its own."""
    return ("",)


@dataclass(frozen=True)
class Metric:
    name: str
    """Name, such as ``pseudo/miou``; in that of a family, ``{}`` stands for the member: ``layer/{}/miou``."""
    caption: str
    """The quantity and the images it is computed on; without a full stop."""
    unit: str = "share"
    better: Better | None = None
    """The good end; None: neither."""
    members: Callable[[TrialConfig], Iterable[str]] = one
    """Returns a trial's values for ``{}``; none if the trial does not compute the metric."""
    result: bool = True
    """True if it is in the record of the stage."""
    epochs: bool = False
    """True if it is reported every epoch."""
    shown: Literal["always", "report", "asked"] = "asked"
    """Tables that have its column: always, in the report too, or only where it is asked for by name."""

    def names(self, trial: TrialConfig) -> list[str]:
        """Names of the metric, or of its members, in a trial."""
        return [self.name.replace("{}", member) for member in self.members(trial)]

    def called(self, name: str) -> bool:
        """True if this is the name of the metric or of one of its members."""
        head, braces, tail = self.name.partition("{}")
        return re.fullmatch(re.escape(head) + ("[^/]+" if braces else "") + re.escape(tail), name) is not None


@dataclass(frozen=True)
class Listed:
    """A metric and the stage that makes it."""

    metric: Metric
    stage: str


def of_stage(stage: str) -> tuple[Metric, ...]:
    """Metrics that a stage declares."""
    return tuple(getattr(discover.load(stages, stage), "METRICS", ()))


@functools.cache
def listed() -> tuple[Listed, ...]:
    """Return everything that any stage declares, stages in alphabetical order."""
    return tuple(Listed(metric, stage) for stage in discover.names(stages) for metric in of_stage(stage))


def found(name: str, among: Iterable[Listed] | None = None) -> Listed | None:
    """The metric of a name; one of that very name goes before a family that has it as a member."""
    matching = [entry for entry in (listed() if among is None else among) if entry.metric.called(name)]
    return next((entry for entry in matching if entry.metric.name == name), next(iter(matching), None))


def each_layer(trial: TrialConfig) -> list[str]:
    """The layers of the trial's backbone, as two digits each."""
    depth, _ = backbone_shape(trial.backbone)
    return [f"{layer:02d}" for layer in range(depth)]


def each_measure(trial: TrialConfig) -> tuple[str, ...]:
    """The shares that the trial's method reports beside its loss."""
    own = getattr(discover.load(methods, trial.method.name), "measures", None)
    return tuple(own(trial.method.config)) if own is not None else ()


def each_decision(trial: TrialConfig) -> tuple[str, ...]:
    """The settings of the trial's backbone that its weights decide about."""
    own = getattr(discover.load(backbones, trial.backbone.name), "decisions", None)
    return tuple(own(trial.backbone.config)) if own is not None else ()


def pulls_on_layers(trial: TrialConfig) -> tuple[str, ...]:
    """The members of a metric that only methods with losses on layers of the host have."""
    method = trial.method
    return ("",) if says(discover.load(methods, method.name), "SUPERVISES_LAYERS", method.config) else ()


def each_loss(trial: TrialConfig) -> Iterator[str]:
    """The terms of the trial's loss after its warm-up: of the labels, the host and the method."""
    yield "classification"
    for package, part in ((backbones, trial.backbone), (methods, trial.method)):
        own = getattr(discover.load(package, part.name), "losses", None)
        yield from own(part.config) if own is not None else ()
