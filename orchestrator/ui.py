"""Start MLflow's UI on the record of a sweep, or of a runs folder.

It goes on until Ctrl-C. The record is the one that the YAML, else MLFLOW_TRACKING_URI, else the runs folder says; a
sweep given by its name is looked for in the latter two.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from aream.errors import ConfigError
from orchestrator.console.command import REFUSED, command, run
from orchestrator.console.parser import add_sweep
from workers.processes.masking import masked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser, nargs="?")
    parser.add_argument("--port", type=int, default=5000, help="where it listens, on this machine only (default: 5000)")


@command(
    add_arguments,
    """
%(prog)s
%(prog)s sweeps/thresholds.yaml --port 5001
""",
    {REFUSED: "there is no record, or it is on a server, whose URL is printed"},
)
def main(options: argparse.Namespace) -> NoReturn:
    uri = _record(options)
    _tell(uri, options)
    words = [sys.executable, "-m", "mlflow", "ui", "--port", str(options.port), "--workers", "1"]
    # Of one person's UI; its jobs would be seven more processes. The URI may hold a password, which `ps` would show.
    given = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    os.execve(words[0], words, given)


def _tell(uri: str, options: argparse.Namespace) -> None:
    """Print the address of each sweep's table of configurations; MLflow prints its own as it starts."""
    from orchestrator.tracking.backends.mlflow import landing_pages

    for name, page in landing_pages(uri).items():
        print(f"{name}: http://127.0.0.1:{options.port}/{page}", flush=True)


def _record(options: argparse.Namespace) -> str:
    """The URI of a database that is there.

    Raises:
        AreamError: there is none, no such sweep, or the record is a server's.
    """
    from orchestrator.spec.sqlite_uri import sqlite_file
    from orchestrator.tracking.mlflow_uri import SERVERS, record_uri
    from orchestrator.workspace import locate, runs_folder

    given = None
    if options.sweep is None:
        runs = runs_folder(options.runs)
    else:
        runs = locate(options.sweep, options.runs).runs
        if options.sweep.endswith((".yaml", ".yml")):
            from orchestrator.spec.reader import load_spec

            tracking = load_spec(Path(options.sweep)).tracking
            if tracking.name != "mlflow":
                raise ConfigError(f"tracking.name: the record of {options.sweep} is {tracking.name}, not MLflow's")
            given = tracking.config.uri
    uri = record_uri(given, runs, Path.cwd())
    if uri.startswith(SERVERS):
        raise ConfigError(f"the record is on a server, which has its own UI: open {masked(uri)}")
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise ConfigError(f"{file}: there is no record yet; a sweep makes it when it runs")
    return uri


if __name__ == "__main__":
    run(main)
