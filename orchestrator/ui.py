"""Start MLflow's UI on the record of a sweep, or of a runs folder.

It goes on until Ctrl-C. The record is the one that the YAML says, or that a sweep given by its name was recorded in;
else that of MLFLOW_TRACKING_URI, else of the runs folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aream.errors import ConfigError
from orchestrator.console.command import REFUSED, command, run
from orchestrator.console.listening import listening
from orchestrator.console.parser import add_sweep
from orchestrator.tracking.local_ui import HOST, PORT, local_address
from workers.processes.masking import HIDDEN, masked

if TYPE_CHECKING:
    from orchestrator.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser, nargs="?")
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"where it listens, on this machine only (default: {PORT})"
    )


@command(
    add_arguments,
    """
%(prog)s
%(prog)s sweeps/thresholds.yaml --port 5001
""",
    {REFUSED: "there is no record, it is on a server, whose URL is printed, or the port is taken"},
)
def main(options: argparse.Namespace) -> NoReturn:
    from orchestrator.tracking.backends.mlflow import follow_move

    uri, experiment = _record(options)
    listening(HOST, options.port).close()  # MLflow would say it in a traceback, behind the addresses
    follow_move(uri)
    _tell(uri, experiment, options.port)
    words = [sys.executable, "-m", "mlflow", "ui", "--port", str(options.port), "--workers", "1"]
    # Of one person's UI; its jobs would be seven more processes. The URI may hold a password, which `ps` would show.
    given = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    os.execve(words[0], words, given)


def _tell(uri: str, experiment: str | None, port: int) -> None:
    """Print the address of a sweep's table of configurations, or of every sweep's; MLflow prints its own as it
    starts."""
    from orchestrator.tracking.backends.mlflow import landing_pages

    pages = landing_pages(uri)
    for name, page in pages.items():
        if experiment not in pages or name == experiment:
            print(f"{name}: {local_address(port)}/{page}", flush=True)


def _record(options: argparse.Namespace) -> tuple[str, str | None]:
    """The URI of a database that is there, and the experiment that is asked for.

    Raises:
        AreamError: there is none, no such sweep, or the record is a server's.
    """
    from orchestrator.spec.sqlite_uri import sqlite_file
    from orchestrator.tracking.mlflow_uri import SERVERS, record_uri
    from orchestrator.workspace import locate, runs_folder

    given, experiment, start = None, None, Path.cwd()
    if options.sweep is None:
        runs = runs_folder(options.runs)
    elif options.sweep.endswith((".yaml", ".yml")):
        from orchestrator.spec.reader import load_spec

        workspace, spec = locate(options.sweep, options.runs), load_spec(Path(options.sweep))
        _refuse_other(options.sweep, spec.tracking.name)
        runs, given = workspace.runs, spec.tracking.config.uri
        experiment = spec.tracking.config.experiment or spec.name
    else:
        workspace = locate(options.sweep, options.runs)
        runs, experiment, given = workspace.runs, workspace.name, _remembered(workspace)
        start = runs
    uri = record_uri(given, runs, start)
    if uri.startswith(SERVERS):
        raise ConfigError(f"the record is on a server, which has its own UI: open {masked(uri)}")
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise ConfigError(f"{file}: there is no record yet; a sweep makes it when it runs")
    return uri, experiment


def _remembered(workspace: Workspace) -> str | None:
    """The URI that a sweep was recorded at last; None where that is not known.

    Raises:
        AreamError: it was not recorded in MLflow, or at a URI with a password, which is kept nowhere.
    """
    from orchestrator.tracking.mlflow_uri import SERVERS, VARIABLE
    from orchestrator.tracking.record_place import recorded_in

    found = recorded_in(workspace)
    if found is None:
        return None
    _refuse_other(workspace.name, found.name)
    if HIDDEN not in found.where or found.where.startswith(SERVERS):
        return found.where
    if os.environ.get(VARIABLE):
        return None
    raise ConfigError(f"{found.where}: the password is not kept; name the sweep by its YAML file, or set {VARIABLE}")


def _refuse_other(sweep: str, backend: str) -> None:
    if backend != "mlflow":
        raise ConfigError(f"tracking.name: the record of {sweep} is {backend}, not MLflow's")


if __name__ == "__main__":
    run(main)
