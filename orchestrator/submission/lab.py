"""Describe a lab's cluster in one file that its platform engineer writes once; sweeps stay as they are.

    runs: /srv/aream/runs
    overrides: {store.uri: s3://aream/store, tracking.uri: "http://mlflow:5000"}
    secrets: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]
    ray: {address: "http://head:8265"}

The other keys are the targets of ``submit``, each with the ``Config`` of its folder in
``orchestrator/submission/targets``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aream import discover
from aream.config import config
from aream.errors import ConfigError
from orchestrator.spec.build import Invalid, build
from orchestrator.spec.yaml_source import Problem, SpecError, read_source
from orchestrator.submission import targets
from workers.processes.masking import SECRET_NAME, masked

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@config
class Worker:
    """A node that runs trials, for targets that ask for nodes; a cluster that is there knows its own."""

    cpus: int = 4
    gpus: int = 0
    memory_gib: int = 16
    least: int = 1
    """Nodes the job starts with, and keeps."""
    most: int = 1
    """Nodes it may have at once, where the target can add some."""

    def __post_init__(self) -> None:
        for name in ("cpus", "memory_gib", "most"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")
        if self.gpus < 0:
            raise ConfigError(f"gpus: need 0 or more, got {self.gpus}")
        if not 0 <= self.least <= self.most:
            raise ConfigError(f"least: need 0 to {self.most} (`most`), got {self.least}")


@config
class Lab:
    runs: str
    """Absolute folder for state, logs and reports, on the node that drives the sweep; it must outlive the job."""
    shared: bool = False
    """True if every node mounts ``runs`` at the same path (NFS, Lustre, a ReadWriteMany volume)."""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Dotted keys of a sweep and their values here: store, tracking server, data roots. ``--set`` wins."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Variables of every process of a job; no secrets."""
    secrets: tuple[str, ...] = ()
    """Names of variables that hold secrets; the values are the cluster's and never pass through here."""
    worker: Worker = Worker()
    retries: int = 3
    """Restarts of a job that was lost as a whole (its head node died), if the target supports them. KubeRay restarts
    every job that did not end well."""

    def __post_init__(self) -> None:
        if not Path(self.runs).is_absolute():
            raise ConfigError(f"runs: need an absolute folder, got {self.runs!r}")
        if self.retries < 0:
            raise ConfigError(f"retries: need 0 or more, got {self.retries}")
        for name in (*self.environment, *self.secrets):
            if not VARIABLE.fullmatch(name):
                raise ConfigError(f"environment: {name!r} is not a valid name of a variable")
        for name, value in self.environment.items():
            if SECRET_NAME.search(name) or name in self.secrets or masked(value) != value:
                raise ConfigError(f"environment: {name}: name it under `secrets`, without its value")

    def settings(self) -> tuple[str, ...]:
        """The overrides as ``--set`` takes them."""
        return tuple(
            f"{key}={json.dumps(value, ensure_ascii=False)}"
            for key, value in {"runs": self.runs, **self.overrides}.items()
        )


def read_lab(path: Path, target: str) -> tuple[Lab, Any]:
    """The lab, and the ``Config`` of one target.

    Raises:
        SpecError: listing all problems of the file, other targets' sections included.
    """
    source = read_source(path, ())
    problems: list[Problem] = []

    def report(key: str, message: str) -> None:
        problems.append(source.problem(key, message))

    def section(cls: type, key: str, content: object) -> Any:
        try:
            return build(cls, content, key, report)
        except Invalid:
            return None

    named = {key: source.data[key] for key in target_names() if key in source.data}
    own = {key: value for key, value in source.data.items() if key not in named}
    lab = section(Lab, "", own)
    configs = {
        key: section(discover.load(targets, key).Config, key, content) for key, content in {target: {}, **named}.items()
    }
    if problems:
        raise SpecError(problems)
    return lab, configs[target]


def target_names() -> Sequence[str]:
    """Names of the targets that a sweep can be sent to."""
    return discover.names(targets)
