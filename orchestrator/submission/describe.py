"""Describe a job from a sweep file and the lab's; errors are found here, before it is sent."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aream import discover
from aream.errors import ConfigError
from orchestrator.spec.build import build, strict
from orchestrator.spec.dotted_keys import overlaid
from orchestrator.spec.reader import load_spec
from orchestrator.spec.spec import SweepSpec
from orchestrator.spec.sqlite_uri import sqlite_file
from orchestrator.spec.yaml_source import read_source
from orchestrator.submission.job import Job
from orchestrator.submission.lab import Lab
from orchestrator.tracking import backends
from workers.processes.masking import masked
from workers.processes.provenance import code_revision
from workers.staging.cache import is_uri
from workers.staging.locations import with_locations
from workers.trial import SegmentationConfig, TrialConfig


def describe(path: Path, lab: Lab, overrides: Sequence[str] = (), image: str | None = None) -> Job:
    """The job for a sweep file.

    Raises:
        ConfigError: the sweep is invalid, or cannot work on the lab's nodes as it stands.
    """
    settings = (*lab.settings(), *overrides)
    spec = load_spec(path, settings)
    source = read_source(path, settings)
    text = path.read_text(encoding="utf-8-sig")
    _refuse_passwords(path, text, settings)
    runs = str(source.data["runs"])
    if not Path(runs).is_absolute():
        raise ConfigError(f"{source.where('runs')}: runs: given {runs!r}; need an absolute folder of the cluster's")
    store_uri = source.data.get("store", {}).get("uri")  # as given: that of ``spec`` is absolute here
    _check_places(spec, store_uri, lab, runs)
    if store_uri is not None:
        _refuse_relative("store.uri", store_uri)
    _check_locations(spec, source.data)
    asked = [spec.resources.trial]
    if spec.segmentation_data is not None:
        asked.append(spec.resources.segmentation)
    return Job(
        name=spec.name,
        sweep=text,
        overrides=settings,
        image=image,
        revision=code_revision(),
        environment=lab.environment,
        secrets=lab.secrets,
        asked=tuple(asked),
        worker=lab.worker,
        retries=lab.retries,
        runs=runs,
        shared=lab.shared,
    )


def _refuse_passwords(path: Path, text: str, settings: Sequence[str]) -> None:
    """Refuse passwords in the sweep file or the overrides: the cluster keeps and shows what is sent."""
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
    for where, line in (*lines, *(("--set", setting) for setting in settings)):
        if masked(line) != line:
            raise ConfigError(
                f"{where}: {masked(line).strip()}: a job is kept where others read it: leave the password out, and name"
                " the variable that holds it under `secrets` in the lab file"
            )


def _check_places(spec: SweepSpec, store_uri: str | None, lab: Lab, runs: str) -> None:
    """Results must lie where all nodes reach them, and tracking must not end with the job."""
    if not lab.shared and (store_uri is None or not store_uri.startswith("s3://")):
        given = f"given {store_uri}" if store_uri else f"not given, so {runs}/artifacts"
        raise ConfigError(
            f"store.uri: {given}: a folder that other nodes do not see; set it to s3://BUCKET/PREFIX in the sweep or in"
            " the lab's `overrides`, or say `shared: true` in the lab file where every node mounts that folder"
        )
    tracking = discover.load(backends, spec.tracking.name)
    if hasattr(tracking, "check_job"):
        tracking.check_job(spec.tracking.config, {*lab.environment, *lab.secrets})


def _check_locations(spec: SweepSpec, data: Mapping[str, Any]) -> None:
    """A relative path means another folder on another machine.

    Args:
        data: the sweep file with its overrides; ``spec`` has some of its places made absolute here.
    """
    for place in data.get("plugins", []):
        if place.endswith(".py"):
            _refuse_relative("plugins", place)
    storage = (data.get("search") or {}).get("storage")
    file = None if storage is None else sqlite_file(storage)
    if file is not None and not file.is_absolute():
        _refuse_relative("search.storage", str(file))
    for config in _configs(spec):
        with_locations(config, _refuse_relative)


def _refuse_relative(name: str, location: str) -> str:
    if not location.startswith("/") and not is_uri(location):
        raise ConfigError(
            f"{name}: given {location!r}; on the cluster that is another folder: need an absolute path or a URI, in"
            " the sweep or in the lab's `overrides`"
        )
    return location


def _configs(spec: SweepSpec) -> Iterator[TrialConfig | SegmentationConfig]:
    """With their places as they were given: a trial at every point of the axes that may name one, and segmenters."""
    naming = [axis.key for axis in spec.axes if any(not isinstance(value, int | float) for value in axis.candidates())]
    for values in spec.points_of(naming):
        mapping = {**overlaid(spec.trial_data, values), "seed": spec.seeds[0]}
        with contextlib.suppress(ConfigError):  # impossible without the other axes' values
            yield strict(functools.partial(build, TrialConfig, mapping, ""))
    for point in spec.segmentation_points() if spec.segmentation_data is not None else ():
        mapping = overlaid(spec.segmentation_data or {}, point)
        yield strict(functools.partial(build, SegmentationConfig, mapping, "segmentation"))
