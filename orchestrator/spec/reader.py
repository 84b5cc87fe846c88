"""Read a sweep file into its specification; all of its errors are found at once, before Ray starts."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from aream.errors import AreamError, ConfigError
from orchestrator.spec import metric_checks, paper
from orchestrator.spec.axes import (
    KINDS,
    SEGMENTATION_SECTIONS,
    TRAINING_SECTIONS,
    VARIANT_SECTIONS,
    Axis,
    ConditionError,
    parse_axis,
)
from orchestrator.spec.build import Invalid, build, join
from orchestrator.spec.constraints import Where
from orchestrator.spec.settings import Search, Settings
from orchestrator.spec.spec import MAX_POINTS, SweepSpec
from orchestrator.spec.sqlite_uri import absolute_database
from orchestrator.spec.yaml_source import DOTTED_SECTIONS, Problem, SpecError, SweepSource, read_source
from workers import plugins
from workers.trial import SegmentationConfig, TrialConfig

MAX_CONSTRAINTS = 20
TRIAL_KEYS = (*TRAINING_SECTIONS, *VARIANT_SECTIONS)
OTHER_KEYS = ("axes", "where", "segmentation")
T = TypeVar("T")


def load_spec(path: Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read and check a sweep file.

    Raises:
        SpecError: listing all problems with file, line, key, what was given and what is allowed.
    """
    return dataclasses.replace(_SweepReader(read_source(path, overrides)).read(), overrides=tuple(overrides))


def _absolute_storage(search: Search | None) -> Search | None:
    if search is None or search.storage is None or not search.storage.startswith("sqlite"):
        return search
    return dataclasses.replace(search, storage=absolute_database(search.storage, Path.cwd(), "search.storage"))


class _SweepReader:
    def __init__(self, source: SweepSource) -> None:
        self.source, self.problems = source, list[Problem]()

    def report(self, key: str, message: str) -> None:
        self.problems.append(self.source.problem(key, message))

    def read(self) -> SweepSpec:
        data = self.source.data
        self._activate(data.get("plugins", []))
        own = [field.name for field in dataclasses.fields(Settings)]
        known = [*own, *TRIAL_KEYS, *OTHER_KEYS]
        settings = self._try(lambda: build(Settings, {k: data[k] for k in own if k in data}, "", self.report))
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
        try:
            runs, store = settings.runs_dir, settings.store_uri
            search = _absolute_storage(settings.search)
        except ConfigError as error:
            self.report(*str(error).split(": ", 1))
            raise SpecError(self.problems) from error
        spec = SweepSpec(
            name=settings.name,
            description=self.source.header,
            seeds=settings.seeds,
            search=search,
            scheduler=settings.scheduler,
            rank=settings.rank,
            analyses=settings.analyses,
            paper=settings.paper,
            resources=settings.resources,
            limits=settings.limits,
            notify=settings.notify,
            concurrency=settings.concurrency,
            tracking=settings.tracking,
            store_uri=store,
            store_endpoint=settings.store.endpoint,
            store_waits=settings.store.waits,
            nodes=settings.nodes,
            staging=settings.staging,
            runs_dir=runs,
            path=self.source.path,
            folder=Path.cwd(),
            axes=axes,
            segmentation_axes=segmentation_axes,
            where=where,
            trial_data=trial_data,
            segmentation_data=segmentation,
        ).with_component_names()
        self._check_points(spec)
        if not self.problems:
            self._report_all(metric_checks.problems(spec), "rank")
            self._report_all(paper.problems(spec), "paper")
        if self.problems:
            raise SpecError(self.problems)
        return spec

    def _activate(self, given: object) -> None:
        """Plug-ins come before all that may name them; a wrong list is told with the other settings."""
        listed = [place for place in given if isinstance(place, str)] if isinstance(given, list) else []
        for index, place in enumerate(listed):
            try:
                plugins.activate([plugins.read_plugin(place, Path.cwd())])
            except ConfigError as error:
                self.report(f"plugins[{index}]", str(error))
        try:
            plugins.activate(plugins.installed_plugins())
        except ConfigError as error:
            self.report("plugins", f"of an installed package: {error}")

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
            axis, _, part = key.rpartition(".")
            if axis in given and part in (*KINDS, "when"):  # as `--set axes.method.alpha_low.grid=[0.1]` says it
                whole = f"{join(section, axis)}={{grid: [...]}}"
                self.report(join(section, key), f"an axis is given whole, as in {whole}")
                continue
            try:
                axes.append(parse_axis(key, value, sections))
            except ConditionError as error:
                self.report(join(section, f"{key}.when"), str(error))
            except ConfigError as error:
                self.report(join(section, key), str(error))
        return tuple(axes)

    def _where(self, given: object) -> tuple[Where, ...]:
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            self.report("where", f"given {given!r}; need a list of constraints, each a text")
            return ()
        if len(given) > MAX_CONSTRAINTS:
            self.report("where", f"given {len(given)} constraints; at most {MAX_CONSTRAINTS} are allowed")
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
            if axis.when is not None:
                self.report(f"segmentation.axes.{axis.key}.when", "segmentation axes take no condition")
        data = {key: value for key, value in given.items() if key != "axes"}
        self._try(lambda: build(SegmentationConfig, data, "segmentation", self.report))
        return data, axes

    def _check_search(self, settings: Settings, axes: Sequence[Axis]) -> None:
        if settings.search is not None and settings.search.trials > MAX_POINTS:
            self.report("search.trials", f"given {settings.search.trials}; at most {MAX_POINTS} are allowed")
        if settings.search is not None and settings.search.seed >= 2**32:
            self.report("search.seed", f"given {settings.search.seed}; need a number below 2**32")
        for axis in axes:
            if not axis.listed and (settings.search is None or axis.variant):
                why = "a variant axis is listed" if axis.variant else "a range needs `search`"
                self.report(f"axes.{axis.key}", f"given {axis.kind}; {why}: use grid")
            elif not axis.listed and axis.key.startswith("data."):
                self.report(
                    f"axes.{axis.key}", f"given {axis.kind}; every dataset is read before the sweep: use choice"
                )
        if settings.search is not None and not any(not axis.variant for axis in axes):
            self.report("search", "there is nothing to search: no axis under data, backbone, method or train")

    def _countable(self, spec: SweepSpec) -> bool:
        """True if the points are few enough to check each; they are counted without being built."""
        variants = math.prod(len(axis.values) for axis in spec.axes if axis.variant)
        trainings = math.prod(len(axis.values) for axis in spec.training_axes())
        counts = {
            "axes": variants * (trainings if spec.search is None else 1) * len(spec.seeds),
            "segmentation.axes": math.prod(len(axis.values) for axis in spec.segmentation_axes),
        }
        for key, count in counts.items():
            if count > MAX_POINTS:
                seeds = f" at {len(spec.seeds)} seeds" if key == "axes" and len(spec.seeds) > 1 else ""
                what = "variants a trial" if spec.search is not None and key == "axes" else "points"
                self.report(key, f"given {count:,} {what}{seeds}; at most {MAX_POINTS:,} are allowed")
        return all(count <= MAX_POINTS for count in counts.values())

    def _check_scheduler(self, spec: SweepSpec) -> None:
        most = spec.own_epochs()
        if spec.scheduler and spec.scheduler.grace_epochs >= most:
            given = spec.scheduler.grace_epochs
            self.report("scheduler.grace_epochs", f"given {given}; need fewer than the {most} epochs after the warm-up")

    def _check_names(self, spec: SweepSpec) -> bool:
        """True if conditions and constraints read existing keys and no two conditions depend on each other."""
        texts = {f"axes.{axis.key}.when": axis.when for axis in spec.axes if axis.when}
        texts |= {f"where[{index}]": where for index, where in enumerate(spec.where)}
        before = len(self.problems)
        try:
            _ = spec.ordered_axes
            for key, text in texts.items():
                for name in text.names():
                    if not any(name == axis.key for axis in spec.axes) and not spec.knows(name):
                        self.report(key, f"{name}: no such key")
        except ConditionError as error:
            self.report(f"axes.{error.key}.when", str(error))
        except AreamError as error:
            self.report("axes", str(error))
        return len(self.problems) == before

    def _report_all(self, found: Iterable[tuple[str, str]], section: str) -> None:
        """Report problems as they are found; one that ends the search is the section's."""
        try:
            for key, message in found:
                self.report(key, message)
        except AreamError as error:
            self.report(section, str(error))

    def _impossible_segmenters(self, spec: SweepSpec) -> Iterator[tuple[str, str]]:
        for point in spec.segmentation_points():
            try:
                spec.segmentation_config(point)
            except ConfigError as error:
                yield "segmentation.axes" if point else "segmentation", f"invalid combination {point}: {error}"

    def _check_points(self, spec: SweepSpec) -> None:
        """Every point of a grid, or the ends of a search's axes, must be a possible trial."""
        if not self._countable(spec):
            return
        if not self._check_names(spec):
            return
        seen: set[str] = set()
        count = 0
        try:
            points = spec.training_points() if spec.search is None else spec.extreme_points()
            most = MAX_POINTS // math.prod(len(axis.values) for axis in spec.axes if axis.variant)
            for values in itertools.islice(points, most):
                for point in spec.variant_points(values):
                    count += 1
                    try:
                        spec.trial(point, spec.seeds[0])
                    except ConfigError as error:
                        if str(error) not in seen:
                            seen.add(str(error))
                            self.report("axes", f"invalid combination {point}: {error}")
            for key in spec.segmentation.select.of_each if spec.segmentation else ():
                if not spec.knows(key):
                    self.report("segmentation.select.of_each", f"{key}: no such key")
                elif any(axis.key == key and not axis.listed for axis in spec.axes):
                    self.report("segmentation.select.of_each", f"{key}: a range has no values to choose the best of")
            self._check_scheduler(spec)
            self._report_all(self._impossible_segmenters(spec), "segmentation")
        except ConditionError as error:
            self.report(f"axes.{error.key}.when", str(error))
            return
        except AreamError as error:
            self.report("where" if spec.where else "axes", str(error))
            return
        if count == 0 and spec.search is None:
            self.report("where", "no point of the grid meets the constraints")
