"""Location of a sweep's results: the keys of its file about it, read without the configuration of a trial.

That one names networks, and reading it takes the seconds that torch takes to import.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from aream.config import config
from aream.errors import ConfigError
from orchestrator.spec.build import Invalid, build
from orchestrator.spec.names import LONGEST_NAME, RESERVED, absolute, is_sweep_name
from orchestrator.spec.yaml_source import Problem, SpecError, read_source
from workers.artifacts.opening import is_folder
from workers.artifacts.waits import USUAL, Waits
from workers.processes.masking import masked


@config
class Store:
    uri: str | None = None
    """Folder, file:///FOLDER or s3://BUCKET/PREFIX of the artifact store, a folder relative to where the command runs;
    null: artifacts in the runs folder."""
    endpoint: str | None = None
    """URL of a server that speaks S3; null: AWS, or AWS_ENDPOINT_URL_S3. Credentials come from boto3's own chain."""
    waits: Waits = USUAL
    """Timeouts and retries for that server, for every process that has the sweep file."""


@config
class Place:
    name: str
    store: Store = Store()
    runs: str = "runs"
    """Folder of results, checkpoints and the default store, relative to where the command runs."""

    def __post_init__(self) -> None:
        if not is_sweep_name(self.name):
            raise ConfigError(
                f"name: need letters, digits, . _ - (at most {LONGEST_NAME}, the first a letter or digit), got"
                f" {self.name!r}"
            )
        lower = self.name.lower()  # some file systems know no capitals
        if lower in RESERVED or lower.startswith("mlflow.db") or lower.endswith((".yaml", ".yml")):
            raise ConfigError(
                f"name: {self.name!r} is reserved for files beside the folders of sweeps, or means a sweep file: need"
                f" another than {', '.join(RESERVED)}, mlflow.db and *.yaml"
            )
        if not self.runs.strip() or not self.runs.isprintable():
            raise ConfigError(f"runs: need a folder, without control characters, got {self.runs!r}")
        if "://" in self.runs:
            raise ConfigError(f"runs: need a folder of this machine, got {masked(self.runs)!r}; see store.uri")

    @property
    def runs_dir(self) -> Path:
        """Absolute.

        Raises:
            ConfigError: at the home of nobody, or no text.
        """
        return absolute(self.runs, "runs")

    @property
    def store_uri(self) -> str | None:
        """That of the store, where it is a folder absolute: Ray's workers run in folders of their own.

        Raises:
            ConfigError: at the home of nobody, or no text.
        """
        uri = self.store.uri
        return uri if uri is None or not is_folder(uri) else str(absolute(uri, "store.uri"))


def read_place(path: Path) -> Place:
    """Read these keys of a sweep file; the others are not looked at.

    Raises:
        SpecError: what is wrong with them, with file and line.
    """
    source, problems = read_source(path, ()), list[Problem]()
    given = {field.name: source.data[field.name] for field in dataclasses.fields(Place) if field.name in source.data}
    try:
        return build(Place, given, "", lambda key, message: problems.append(source.problem(key, message)))
    except Invalid:
        raise SpecError(problems) from None
