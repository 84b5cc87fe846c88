"""A sweep file as a frozen, validated specification; everything wrong with it is found at once, before Ray starts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from aream.config import config, plain
from aream.errors import AreamError, ConfigError
from orchestrator.axes import SEGMENTATION_SECTIONS, TRAINING_SECTIONS, VARIANT_SECTIONS, Axis, parse_axis
from orchestrator.build import Invalid, build, join
from orchestrator.where import Where
from orchestrator.yaml_source import DOTTED_SECTIONS, Problem, Source, SpecError, read_source
from workers.trial import SegmentationConfig, TrialConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_POINTS = 10_000
TRIAL_KEYS = (*TRAINING_SECTIONS, *VARIANT_SECTIONS)
Values = dict[str, Any]
T = TypeVar("T")


@config
class Search:
    algorithm: Literal["tpe", "random"] = "tpe"
    trials: int
    """Points to try, each at every seed."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.seed < 0:
            raise ConfigError(f"trials: need a positive number and a seed >= 0, got {self.trials} and {self.seed}")


@config
class Scheduler:
    name: Literal["asha"] = "asha"
    metric: str = "val/map"
    """Reported every epoch; larger is better."""
    grace_epochs: int = 1
    """Epochs that every trial gets."""
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if self.grace_epochs < 1:
            raise ConfigError(f"grace_epochs: need a positive number, got {self.grace_epochs}")
        if self.reduction_factor < 2:
            raise ConfigError(f"reduction_factor: need 2 or more, got {self.reduction_factor}")


@config
class Rank:
    metric: str = "pseudo/miou"
    mode: Literal["max", "min"] = "max"


@config
class Resource:
    cpu: float = 1.0
    gpu: float = 0.0
    """A fraction up to 1, or a whole number."""

    def __post_init__(self) -> None:
        if self.cpu <= 0:
            raise ConfigError(f"cpu: need a positive number, got {self.cpu}")
        if self.gpu < 0 or (self.gpu > 1 and not float(self.gpu).is_integer()):
            raise ConfigError(f"gpu: need a fraction in [0, 1] or a whole number, got {self.gpu}")


@config
class Resources:
    trial: Resource = Resource()
    segmentation: Resource = Resource()


@config
class Tracking:
    uri: str | None = None
    """MLflow tracking URI; null: MLFLOW_TRACKING_URI, else sqlite in the runs folder."""
    experiment: str | None = None
    """MLflow experiment; null: the sweep's name."""


@config
class Store:
    uri: str | None = None
    """Folder or file:// URI of the artifact store; null: artifacts in the runs folder."""


@config
class Settings:
    """The parts of a sweep file that are not a trial's configuration."""

    name: str
    seeds: tuple[int, ...] = (0,)
    search: Search | None = None
    scheduler: Scheduler | None = None
    rank: Rank = Rank()
    analyses: tuple[Literal["layer_gain"], ...] = ()
    resources: Resources = Resources()
    concurrency: int | None = None
    """Trials beside each other at most; null: as many as the resources allow."""
    tracking: Tracking = Tracking()
    store: Store = Store()
    runs: str = "runs"
    """Folder of results, checkpoints and the default store, relative to where the command runs."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(f"name: need letters, digits, . _ - (at most 64, no leading sign), got {self.name!r}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds: need one or more different numbers >= 0, got {list(self.seeds)}")
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigError(f"concurrency: need a positive number or null, got {self.concurrency}")


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
        return strict(lambda report: build(TrialConfig, mapping, "", report))

    def segmentation_config(self, values: Mapping[str, Any]) -> SegmentationConfig:
        """The downstream job at a point of its axes.

        Raises:
            ConfigError: the configuration is impossible.
        """
        mapping = overlaid(self.segmentation_data or {}, values)
        return strict(lambda report: build(SegmentationConfig, mapping, "segmentation", report))

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
            node = node["config"] if isinstance(node, dict) and set(node) == {"name", "config"} and part != "name" else node
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


def load_spec(path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read and check a sweep file.

    Raises:
        SpecError: listing all problems with file, line, key, what was given and what is allowed.
    """
    return _Reader(read_source(path, overrides)).read()


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source, self.problems = source, list[Problem]()

    def report(self, key: str, message: str) -> None:
        self.problems.append(self.source.problem(key, message))

    def read(self) -> SweepSpec:
        data = self.source.data
        own = [field.name for field in dataclasses.fields(Settings)]
        known = [*own, *TRIAL_KEYS, "axes", "where", "segmentation"]
        settings = self._try(
            lambda: build(Settings, {k: v for k, v in data.items() if k not in (*TRIAL_KEYS, "axes", "where", "segmentation") and k in known}, "", self.report)
        )
        for key in data:
            if key not in known:
                self.report(key, f"unknown key; allowed are {', '.join(known)}")
        trial_data = {key: data[key] for key in TRIAL_KEYS if key in data}
        self._try(lambda: build(TrialConfig, trial_data, "", self.report))
        axes = self._axes(data.get("axes", {}), "axes", (*TRAINING_SECTIONS, *VARIANT_SECTIONS))
        where = self._where(data.get("where", []))
        segmentation, segmentation_axes = self._segmentation(data.get("segmentation"))
        if settings is not None:
            self._check_search(settings, axes)
        if self.problems or settings is None:
            raise SpecError(self.problems)
        spec = SweepSpec(
            name=settings.name,
            description=self.source.header,
            seeds=settings.seeds,
            search=settings.search,
            scheduler=settings.scheduler,
            rank=settings.rank,
            analyses=settings.analyses,
            resources=settings.resources,
            concurrency=settings.concurrency,
            tracking_uri=settings.tracking.uri,
            experiment=settings.tracking.experiment,
            store_uri=settings.store.uri,
            runs_dir=Path(settings.runs),
            path=self.source.path,
            axes=axes,
            segmentation_axes=segmentation_axes,
            where=where,
            trial_data=trial_data,
            segmentation_data=segmentation,
        )
        self._check_points(spec)
        if self.problems:
            raise SpecError(self.problems)
        return spec

    def _try(self, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Invalid:
            return None

    def _axes(self, given: object, section: str, sections: tuple[str, ...]) -> tuple[Axis, ...]:
        if not isinstance(given, Mapping):
            self.report(section, f"given {given!r}; need a section with one key an axis")
            return ()
        axes = []
        for key, value in given.items():
            try:
                axes.append(parse_axis(key, value, sections))
            except ConfigError as error:
                self.report(join(section, key), str(error))
        return tuple(axes)

    def _where(self, given: object) -> tuple[Where, ...]:
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            self.report("where", f"given {given!r}; need a list of constraints, each a text")
            return ()
        constraints = []
        for index, text in enumerate(given):
            try:
                constraints.append(Where(text))
            except ConfigError as error:
                self.report(f"where[{index}]", str(error))
        return tuple(constraints)

    def _segmentation(self, given: object) -> tuple[Mapping[str, Any] | None, tuple[Axis, ...]]:
        if given is None:
            return None, ()
        if not isinstance(given, Mapping):
            self.report("segmentation", f"given {given!r}; need a section")
            return None, ()
        axes = self._axes(given.get("axes", {}), DOTTED_SECTIONS[1], SEGMENTATION_SECTIONS)
        for axis in axes:
            if not axis.listed:
                self.report(f"segmentation.axes.{axis.key}", "segmentation axes are listed: need grid or choice")
        data = {key: value for key, value in given.items() if key != "axes"}
        self._try(lambda: build(SegmentationConfig, data, "segmentation", self.report))
        return data, axes

    def _check_search(self, settings: Settings, axes: Sequence[Axis]) -> None:
        for axis in axes:
            if not axis.listed and (settings.search is None or axis.variant):
                why = "a variant axis is listed" if axis.variant else "a range needs `search`"
                self.report(f"axes.{axis.key}", f"given {axis.kind}; {why}: use grid")
        if settings.search is not None and not any(not axis.variant for axis in axes):
            self.report("search", "there is nothing to search: no axis under data, backbone, method or train")

    def _check_points(self, spec: SweepSpec) -> None:
        """Every point of a grid, or the ends of a search's axes, must be a possible trial."""
        seen: set[str] = set()
        try:
            for where in spec.where:
                for name in where.names():
                    if not any(name == axis.key for axis in spec.axes):
                        spec.read(name, {})
            ends = [
                Axis(axis.key, "grid", values=tuple(dict.fromkeys(axis.extremes()))) if not axis.listed else axis
                for axis in spec.axes
            ]
            count = 0
            for values in itertools.islice(product([axis for axis in ends if not axis.variant]), MAX_POINTS):
                for point in itertools.islice(spec._points(values, spec._variant_axes()), MAX_POINTS):
                    count += 1
                    try:
                        spec.trial(point, spec.seeds[0])
                    except ConfigError as error:
                        if str(error) not in seen:
                            seen.add(str(error))
                            self.report("axes", f"the point {point} is impossible: {error}")
            for point in spec.segmentation_points():
                spec.segmentation_config(point)
        except AreamError as error:
            self.report("where" if spec.where else "axes", str(error))
            return
        if count == 0 and spec.search is None:
            self.report("where", "no point of the grid meets the constraints")
