"""What stages measure: every metric is declared once, in the file of the stage that makes it, and found from there.

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
    """Of a metric that is no family."""
    return ("",)


@dataclass(frozen=True)
class Metric:
    name: str
    """Such as ``pseudo/miou``; of a family ``{}`` stands for what tells its members apart: ``layer/{}/miou``."""
    caption: str
    """What it is, on which images; without a full stop."""
    unit: str = "share"
    better: Better | None = None
    """Which end is the good one; None: neither."""
    members: Callable[[TrialConfig], Iterable[str]] = one
    """What ``{}`` stands for in a trial; nothing where the trial does not make it."""
    result: bool = True
    """Whether it is in the record of the stage."""
    epochs: bool = False
    """Whether it is reported every epoch."""
    shown: Literal["always", "report", "asked"] = "asked"
    """Where it has a column: in every table, in the report too, or only where it is asked for by name."""

    def names(self, trial: TrialConfig) -> list[str]:
        """Under which names a trial makes it."""
        return [self.name.replace("{}", member) for member in self.members(trial)]

    def called(self, name: str) -> bool:
        """Whether it, or a member of it, has this name."""
        head, braces, tail = self.name.partition("{}")
        return re.fullmatch(re.escape(head) + ("[^/]+" if braces else "") + re.escape(tail), name) is not None


@dataclass(frozen=True)
class Listed:
    """A metric and the stage that makes it."""

    metric: Metric
    stage: str


def of_stage(stage: str) -> tuple[Metric, ...]:
    """What a stage declares."""
    return tuple(getattr(discover.load(stages, stage), "METRICS", ()))


@functools.cache
def listed() -> tuple[Listed, ...]:
    """Everything that any stage declares, stages in alphabetical order."""
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
    """Of a metric of methods whose terms act on layers of the host."""
    method = trial.method
    return ("",) if says(discover.load(methods, method.name), "SUPERVISES_LAYERS", method.config) else ()


def each_loss(trial: TrialConfig) -> Iterator[str]:
    """The terms of the trial's loss after its warm-up: of the labels, the host and the method."""
    yield "classification"
    for package, part in ((backbones, trial.backbone), (methods, trial.method)):
        own = getattr(discover.load(package, part.name), "losses", None)
        yield from own(part.config) if own is not None else ()
