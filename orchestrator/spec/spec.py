"""A sweep as a frozen, validated specification, and the points its axes span."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aream.config import Component, plain
from aream.errors import ConfigError
from orchestrator.spec.axes import Axis, ConditionError, Values, dependencies, dependency_order, product
from orchestrator.spec.build import build, located, strict
from orchestrator.spec.constraints import MissingKey, Where
from orchestrator.spec.dotted_keys import entry, overlaid
from orchestrator.spec.paper import Paper
from orchestrator.spec.sections import Sections
from orchestrator.spec.settings import Goal, Limits, Nodes, Notify, Rank, Resources, Scheduler, Search, Staging, goal
from workers.artifacts.waits import Waits
from workers.processes.masking import masked
from workers.trial import SegmentationConfig, TrialConfig

T = TypeVar("T")
MAX_POINTS = 100_000
"""Points of one sweep that are looked at one by one."""


@dataclass(frozen=True)
class SweepSpec:
    name: str
    description: str
    """The comment the file opens with."""
    seeds: tuple[int, ...]
    search: Search | None
    scheduler: Scheduler | None
    rank: Rank
    analyses: tuple[Component, ...]
    paper: Paper | None
    resources: Resources
    limits: Limits
    notify: Notify
    concurrency: int | None
    tracking: Component
    store_uri: str | None
    store_endpoint: str | None
    store_waits: Waits
    nodes: Nodes
    staging: Staging
    runs_dir: Path
    path: Path
    folder: Path
    """Absolute; where relative locations start. Fixed when the file is read: a worker's own folder is another."""
    axes: tuple[Axis, ...]
    segmentation_axes: tuple[Axis, ...]
    where: tuple[Where, ...]
    trial_data: Mapping[str, Any]
    """The trial sections as given; axis values are laid over them."""
    segmentation_data: Mapping[str, Any] | None
    overrides: tuple[str, ...] = ()
    """``KEY=VALUE`` texts that were laid over the file."""

    @functools.cached_property
    def base(self) -> TrialConfig:
        return self.trial({}, self.seeds[0])

    @functools.cached_property
    def segmentation(self) -> SegmentationConfig | None:
        return None if self.segmentation_data is None else self.segmentation_config({})

    @property
    def ranked_by(self) -> Goal:
        return goal(self.rank.metric, self.rank.mode)

    @property
    def objectives(self) -> tuple[Goal, ...]:
        """Goals of a search; the sweep's rank unless objectives are given."""
        given = self.search.objectives if self.search else ()
        return tuple(goal(one.metric, one.mode) for one in given) or (self.ranked_by,)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()

    def with_component_names(self) -> SweepSpec:
        """The same with the names written out that axes may replace, so that it shows which settings go with them."""
        names = [axis.key for axis in self.axes if axis.key.endswith(".name") and self.exists(axis.key, {})]
        return dataclasses.replace(
            self, trial_data=overlaid(self.trial_data, {name: self.read(name, {}) for name in names})
        )

    def training_axes(self) -> list[Axis]:
        return [axis for axis in self.axes if not axis.variant]

    def trial(self, values: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial at a point; axes that ``values`` leaves out stand at the file's own value.

        Raises:
            ConfigError: the configuration is invalid.
        """
        mapping = {**overlaid(self.trial_data, values), "seed": seed}
        return strict(lambda report: self._sections.trial(mapping, report))

    def segmentation_config(self, values: Mapping[str, Any]) -> SegmentationConfig:
        """The downstream job at a point of its axes.

        Raises:
            ConfigError: the configuration is invalid.
        """
        mapping = overlaid(self.segmentation_data or {}, values)
        config = strict(lambda report: build(SegmentationConfig, mapping, "segmentation", report))
        return located(config, self.folder)

    def present(self, axis: Axis, values: Mapping[str, Any]) -> bool:
        """True if an axis exists where the axes before it have ``values``.

        Raises:
            ConditionError: its condition cannot be decided there.
        """
        if axis.when is None:
            return True
        try:
            return axis.when.holds(lambda name: self.read(name, values))
        except MissingKey:
            return False
        except ConfigError as error:
            raise ConditionError(axis.key, str(error)) from error

    def violation(self, values: Mapping[str, Any]) -> float:
        """Distance of a training point from meeting the constraints, at its best variant; 0 if it meets them.

        A constraint on a key that does not exist at the point asks nothing of it.
        """
        nearest = math.inf
        for point in self._expand(self._variant_axes(), values) if self.where else ():
            nearest = min(nearest, sum(self._missed(where, point) for where in self.where))
            if nearest == 0:
                break
        return nearest if self.where else 0.0

    def training_points(self) -> list[Values]:
        """The grid over the training axes, in the file's order."""
        return [values for values in self._expand(self.training_axes(), {}) if self.violation(values) == 0]

    def extreme_points(self, *, backwards: bool = False) -> Iterator[Values]:
        """Points of the training axes that meet the constraints, ranges at their ends only; looks at a bounded number.

        Args:
            backwards: from the last value of every axis to the first.
        """
        order = -1 if backwards else 1
        points = self.points_over(lambda axis: axis.candidates()[::order])
        for values in itertools.islice(points, MAX_POINTS):
            if self.violation(values) == 0:
                yield values

    def points_over(self, candidates: Callable[[Axis], Sequence[Any]]) -> Iterator[Values]:
        """Points of the training axes over other values than the listed ones, whatever the constraints say."""
        return self._expand(self.training_axes(), {}, candidates)

    def own_epochs(self) -> int:
        """Most epochs that a trial of the sweep trains after its warm-up; 0 where the constraints leave no point."""
        points = self.points_of(["train.epochs", "train.warmup_epochs"])
        trainings = [self.trial(values, self.seeds[0]).train for values in points]
        return max((train.epochs - train.warmup for train in trainings), default=0)

    def points_of(self, keys: Iterable[str]) -> list[Values]:
        """Every combination of the axes that decide about some keys, ranges at their ends only."""
        axes = self._deciding(keys)
        where = [where for where in self.where if all(axis in axes for axis in self._deciding(where.names()))]
        points = self._expand(axes, {}, Axis.candidates)
        return [point for point in points if not any(self._missed(one, point) for one in where)]

    def variant_points(self, values: Mapping[str, Any]) -> list[Values]:
        """All axes' values at a training point, one a variant."""
        points = self._expand(self._variant_axes(), values)
        return [point for point in points if not any(self._missed(where, point) for where in self.where)]

    def segmentation_points(self) -> list[Values]:
        return list(product(self.segmentation_axes))

    def resolved(self) -> dict[str, Any]:
        """The whole specification as plain data, defaults included."""
        return {
            "name": self.name,
            **{key: value for key, value in plain(self.base).items() if key != "seed"},
            "segmentation": plain(self.segmentation),
            "axes": {axis.key: axis.data() for axis in self.axes},
            "segmentation_axes": {axis.key: axis.data() for axis in self.segmentation_axes},
            "where": [where.text for where in self.where],
            "seeds": list(self.seeds),
            "search": _search_data(self.search),
            "scheduler": plain(self.scheduler),
            "rank": plain(self.ranked_by),
            "analyses": plain(self.analyses),
            "paper": plain(self.paper),
            "resources": plain(self.resources),
        }

    def _variant_axes(self) -> list[Axis]:
        return [axis for axis in self.axes if axis.variant]

    @functools.cached_property
    def ordered_axes(self) -> list[Axis]:
        """Each axis after those its condition reads."""
        return dependency_order(self.axes)

    def _expand(
        self,
        axes: Iterable[Axis],
        values: Mapping[str, Any],
        candidates: Callable[[Axis], Sequence[Any]] = lambda axis: axis.values,
    ) -> Iterator[Values]:
        """``values`` with those of listed axes added, the last axis fastest; an axis is left out where it is absent."""
        keys = {axis.key for axis in axes}
        points: Iterator[Values] = iter([dict(values)])
        for axis in self.ordered_axes:
            if axis.key in keys:
                points = self._added(axis, points, candidates(axis))
        for point in points:
            yield {axis.key: point[axis.key] for axis in self.axes if axis.key in point}

    def _added(self, axis: Axis, points: Iterator[Values], candidates: Sequence[Any]) -> Iterator[Values]:
        for point in points:
            if self.present(axis, point):
                yield from ({**point, axis.key: value} for value in candidates)
            else:
                yield point

    def _missed(self, where: Where, values: Mapping[str, Any]) -> float:
        try:
            return where.violation(lambda name: self.read(name, values))
        except MissingKey:
            return 0.0

    def knows(self, name: str) -> bool:
        """True if a dotted key exists at any value of the axes that decide about it."""
        points = self._expand(self._deciding([name]), {}, Axis.candidates)
        return any(self.exists(name, values) for values in points)

    def _deciding(self, keys: Iterable[str]) -> list[Axis]:
        """The axes that some keys depend on, those of their conditions included."""
        names = list(keys)
        deciding = [axis for axis in self.axes if any(axis.decides(name) for name in names)]
        for axis in deciding:
            deciding += [other for other in dependencies(axis, self.axes) if other not in deciding]
        return deciding

    def exists(self, name: str, values: Mapping[str, Any]) -> bool:
        try:
            self.read(name, values)
        except MissingKey:
            return False
        return True

    def read(self, name: str, values: Mapping[str, Any]) -> Any:
        """The value of a dotted key at a point.

        Raises:
            MissingKey: no such key there.
            ConfigError: the configuration is invalid there.
        """
        if name in values:
            return values[name]
        deciding = {axis.key for axis in self.axes if axis.decides(name)}
        try:
            return self._fixed(name, json.dumps({key: values[key] for key in values if key in deciding}))
        except MissingKey:
            raise
        except ConfigError:  # impossible without the other axes' values
            return entry(name, plain(self.trial(values, self.seeds[0])))

    def _fixed(self, name: str, values_text: str) -> Any:
        """A key that is no axis of its own, at the axes that decide about it: read once, not at every point."""
        if (name, values_text) not in self._known:
            values = json.loads(values_text)
            try:
                self._known[name, values_text] = entry(name, overlaid(self.trial_data, values))
            except MissingKey:  # not in the file: a default
                self._known[name, values_text] = entry(name, plain(self.trial(values, self.seeds[0])))
        return self._known[name, values_text]

    @functools.cached_property
    def _sections(self) -> Sections:
        return Sections(self.folder)

    @functools.cached_property
    def _known(self) -> dict[tuple[str, str], Any]:
        return {}


def _search_data(search: Search | None) -> Any:
    if search is None or search.storage is None:
        return plain(search)
    return plain(dataclasses.replace(search, storage=masked(search.storage)))
