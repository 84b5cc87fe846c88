"""Describe a job from a sweep file and the lab's; errors are found here, before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aream import discover
from aream.errors import ConfigError
from orchestrator.spec.build import build, strict
from orchestrator.spec.reader import load_spec
from orchestrator.spec.spec import SweepSpec
from orchestrator.spec.yaml_source import read_source
from orchestrator.submission.job import Job
from orchestrator.submission.lab import Lab
from orchestrator.tracking import backends
from workers.processes.masking import masked
from workers.processes.provenance import code_revision
from workers.staging.cache import is_uri
from workers.staging.locations import with_locations
from workers.trial import TrialConfig


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
    _check_places(spec, lab, runs)
    _check_locations(spec)
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


def _check_places(spec: SweepSpec, lab: Lab, runs: str) -> None:
    """Results must lie where all nodes reach them, and tracking must not end with the job."""
    if not lab.shared and (spec.store_uri is None or not spec.store_uri.startswith("s3://")):
        given = f"given {spec.store_uri}" if spec.store_uri else f"not given, so {runs}/artifacts"
        raise ConfigError(
            f"store.uri: {given}: a folder that other nodes do not see; set it to s3://BUCKET/PREFIX in the sweep or in"
            " the lab's `overrides`, or say `shared: true` in the lab file where every node mounts that folder"
        )
    tracking = discover.load(backends, spec.tracking.name)
    if hasattr(tracking, "check_job"):
        tracking.check_job(spec.tracking.config, {*lab.environment, *lab.secrets})


def _check_locations(spec: SweepSpec) -> None:
    """A relative path means another folder on another machine."""

    def check(name: str, location: str) -> str:
        if not location.startswith("/") and not is_uri(location):
            raise ConfigError(
                f"{name}: given {location!r}; on the cluster that is another folder: need an absolute path or a URI, in"
                " the sweep or in the lab's `overrides`"
            )
        return location

    mapping = {**spec.trial_data, "seed": spec.seeds[0]}
    with_locations(strict(lambda report: build(TrialConfig, mapping, "", report)), check)
