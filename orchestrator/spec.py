"""A sweep as a frozen, validated specification, and the points its axes span."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aream.config import plain
from aream.errors import ConfigError
from orchestrator.axes import Axis
from orchestrator.build import Invalid, build, located
from orchestrator.settings import Rank, Resources, Scheduler, Search
from orchestrator.where import Where
from workers.trial import SegmentationConfig, TrialConfig

Values = dict[str, Any]
"""Axis key -> value."""
T = TypeVar("T")


@dataclass(frozen=True)
class SweepSpec:
    name: str
    description: str
    """The comment the file opens with."""
    seeds: tuple[int, ...]
    search: Search | None
    scheduler: Scheduler | None
    rank: Rank
    analyses: tuple[str, ...]
    resources: Resources
    concurrency: int | None
    tracking_uri: str | None
    experiment: str | None
    store_uri: str | None
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

    @functools.cached_property
    def base(self) -> TrialConfig:
        return self.trial({}, self.seeds[0])

    @functools.cached_property
    def segmentation(self) -> SegmentationConfig | None:
        return None if self.segmentation_data is None else self.segmentation_config({})

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.resolved(), sort_keys=True).encode()).hexdigest()

    def training_axes(self) -> list[Axis]:
        return [axis for axis in self.axes if not axis.variant]

    def trial(self, values: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial at a point; axes that ``values`` leaves out stand at the file's own value.

        Raises:
            ConfigError: the configuration is impossible.
        """
        mapping = {**overlaid(self.trial_data, values), "seed": seed}
        return located(strict(lambda report: build(TrialConfig, mapping, "", report)), self.folder)

    def segmentation_config(self, values: Mapping[str, Any]) -> SegmentationConfig:
        """The downstream job at a point of its axes.

        Raises:
            ConfigError: the configuration is impossible.
        """
        mapping = overlaid(self.segmentation_data or {}, values)
        config = strict(lambda report: build(SegmentationConfig, mapping, "segmentation", report))
        return located(config, self.folder)

    def allowed(self, values: Mapping[str, Any]) -> bool:
        """Whether a point of the training axes meets the constraints, with at least one of its variants."""
        return any(True for _ in self._points(values, self._variant_axes()))

    def training_points(self) -> list[Values]:
        """The grid over the training axes, in the file's order."""
        return [values for values in product(self.training_axes()) if self.allowed(values)]

    def variant_points(self, values: Mapping[str, Any]) -> list[Values]:
        """All axes' values at a training point, one a variant."""
        return list(self._points(values, self._variant_axes()))

    def segmentation_points(self) -> list[Values]:
        return list(product(self.segmentation_axes))

    def resolved(self) -> dict[str, Any]:
        """The whole specification as plain data, defaults included."""
        return {
            "name": self.name,
            **{key: value for key, value in plain(self.base).items() if key != "seed"},
            "segmentation": plain(self.segmentation),
            "axes": {axis.key: plain(dataclasses.asdict(axis)) for axis in self.axes},
            "segmentation_axes": {axis.key: plain(dataclasses.asdict(axis)) for axis in self.segmentation_axes},
            "where": [where.text for where in self.where],
            "seeds": list(self.seeds),
            "search": plain(self.search),
            "scheduler": plain(self.scheduler),
            "rank": plain(self.rank),
            "analyses": list(self.analyses),
            "resources": plain(self.resources),
        }

    def _variant_axes(self) -> list[Axis]:
        return [axis for axis in self.axes if axis.variant]

    def _points(self, values: Mapping[str, Any], axes: Sequence[Axis]) -> Iterator[Values]:
        for point in product(axes):
            full = {**values, **point}
            if all(where.holds(lambda name, full=full: self.read(name, full)) for where in self.where):  # type: ignore[misc]
                yield {axis.key: full[axis.key] for axis in self.axes if axis.key in full}

    def read(self, name: str, values: Mapping[str, Any]) -> Any:
        """The value of a dotted key at a point.

        Raises:
            ConfigError: no such key there.
        """
        if name in values:
            return values[name]
        node: Any = plain(self.trial(values, self.seeds[0]))
        for part in name.split("."):
            node = (
                node["config"]
                if isinstance(node, dict) and set(node) == {"name", "config"} and part != "name"
                else node
            )
            if not isinstance(node, dict) or part not in node:
                raise ConfigError(f"{name}: no such key at {dict(values)}")
            node = node[part]
        return node


def product(axes: Sequence[Axis]) -> Iterator[Values]:
    """Points of listed axes, the last axis fastest."""
    for combination in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip((axis.key for axis in axes), combination, strict=True))


def overlaid(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested sections with dotted keys set; whole sections before what lies in them."""
    result = json.loads(json.dumps(mapping))
    for key in sorted(values, key=lambda key: key.count(".")):
        target, parts = result, key.split(".")
        for part in parts[:-1]:
            inner = target.get(part)
            target[part] = {"name": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else {}
            target = target[part]
        target[parts[-1]] = json.loads(json.dumps(values[key]))
    return dict(result)


def strict(make: Callable[[Callable[[str, str], None]], T]) -> T:
    """Build where the first problem is an error."""
    problems: list[str] = []
    try:
        return make(lambda key, message: problems.append(f"{key}: {message}" if key else message))
    except Invalid:
        raise ConfigError("; ".join(problems)) from None
