"""One sweep as a job for a cluster: the description that every target of ``submit`` makes its output from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aream.backbones._checkpoint import PRETRAINED
from aream.config import Component, config, is_config, plain
from aream.errors import ConfigError
from orchestrator.build import build, join, strict
from orchestrator.lab import Lab, Worker
from orchestrator.resources import Node, amounts, fits, requested
from orchestrator.settings import Resource, masked
from orchestrator.spec import SweepSpec
from orchestrator.spec_reader import load_spec
from orchestrator.yaml_source import Source, read_source
from workers.provenance import code_revision
from workers.trial import TrialConfig

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"


@config
class Job:
    name: str
    """The sweep's name: letters, digits, . _ - (at most 64)."""
    sweep: str
    """The sweep file's text, as it stands."""
    overrides: tuple[str, ...]
    """``KEY=VALUE`` for ``--set``: the lab's, then the command's, which win."""
    image: str | None
    """Container image with this package: ``--image``, else that of the target's section; None: nodes have it."""
    revision: str
    """Of the code that described the job."""
    environment: Mapping[str, str]
    """Variables of every process; no secrets."""
    secrets: tuple[str, ...]
    """Names of variables whose values only the cluster knows."""
    asked: tuple[Resource, ...]
    """What one trial, and one segmentation where there is one, takes of a node."""
    worker: Worker
    """What a node offers, and how many the job may have; for targets that ask for nodes."""
    retries: int
    """How often the whole job is started again after it was lost."""
    runs: str
    """Absolute folder on the node that drives the sweep; it outlives the job."""
    shared: bool
    """Whether every node sees ``runs`` at the same path."""

    @property
    def digest(self) -> str:
        """Twelve hex digits that are equal for equal jobs, whichever code describes them."""
        content = json.dumps({**plain(self), "revision": ""}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def folder_digest(self) -> str:
        """Twelve hex digits for the folder that no two running jobs may share."""
        return hashlib.sha256(self.folder.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Where the sweep's state, logs and report lie."""
        return f"{self.runs}/{self.name}"

    def check_fit(self, custom: Mapping[str, float]) -> None:
        """Refuse what would wait for ever, where each node is a ``worker``.

        Args:
            custom: Ray resources that a worker has beside CPUs and GPUs.

        Raises:
            ConfigError: one trial or segmentation asks for more than a node has.
        """
        offered = {"CPU": float(self.worker.cpus), "GPU": float(self.worker.gpus), **custom}
        for name, asked in zip(("trial", "segmentation"), self.asked, strict=False):
            if not fits(requested(asked), Node("", offered)):
                raise ConfigError(
                    f"resources.{name}: asks for {amounts(requested(asked))}; a node of this lab (`worker`) has"
                    f" {amounts(offered)}"
                )

    def command(self, sweep: str, address: str = "auto") -> list[str]:
        """What runs the sweep on a node of a Ray cluster.

        Args:
            sweep: where the file's text was written there.
        """
        settings = [part for override in self.overrides for part in ("--set", override)]
        return ["python", "-m", "orchestrator.sweep", sweep, "--address", address, *settings]


def describe(path: Path, lab: Lab, overrides: Sequence[str] = (), image: str | None = None) -> Job:
    """The job for a sweep file, checked here: what is wrong with it need not travel to be found.

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
    _check_locations(spec, source)
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
    """What is sent is kept by the cluster, and shown."""
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
    if spec.tracking_uri is None and TRACKING_VARIABLE not in {*lab.environment, *lab.secrets}:
        raise ConfigError(
            f"tracking.uri: not given; set it in the sweep, in the lab's `overrides`, or as {TRACKING_VARIABLE} in the"
            " lab's `environment`"
        )


def _check_locations(spec: SweepSpec, source: Source) -> None:
    """A relative path means another folder on another machine."""
    mapping = {**spec.trial_data, "seed": spec.seeds[0]}
    trial = strict(lambda report: build(TrialConfig, mapping, "", report))
    for key, value in _locations(trial, ""):
        if not value.startswith("/") and "://" not in value and value != PRETRAINED:
            raise ConfigError(
                f"{source.where(key)}: {key}: given {value!r}; on the cluster that is another folder: need an absolute"
                " path, in the sweep or in the lab's `overrides`"
            )


def _locations(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a configuration that says where bytes lie, by its key."""
    if isinstance(value, Component):
        yield from _locations(value.config, key)
    elif is_config(value):
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if field.metadata.get("location") and isinstance(item, str):
                yield join(key, field.name), item
            else:
                yield from _locations(item, join(key, field.name))
