"""Whether MLflow will take a sweep's record, before anything is trained."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aream.errors import ConfigError
from orchestrator.console.permissions import permission_advice
from orchestrator.spec.tracking_uri import sqlite_file
from orchestrator.tracking.backends.mlflow import Delivery
from orchestrator.tracking.backends.mlflow_faults import permanent_fault
from workers.artifacts.storages.file import FULL
from workers.processes.masking import masked

log = logging.getLogger(__name__)

ANSWER_S = 10


def check_tracking(uri: str, experiment: str) -> None:
    """Ask for the experiment; what may be over tomorrow is a warning: rows wait on disk. Makes no database.

    Args:
        uri: absolute.

    Raises:
        ConfigError: nothing will ever be recorded there as it is.
    """
    file = sqlite_file(uri)
    if file is not None:
        made = file.exists()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"tracking.uri: {file.parent} cannot be made ({error.strerror})") from error
        for place in (file, file.parent) if made else (file.parent,):
            if not os.access(place, os.W_OK):
                raise ConfigError(f"tracking.uri: {file} cannot be written; {permission_advice(place)}")
        if file.is_dir():
            raise ConfigError(f"tracking.uri: {file} is a folder: need the file of a database")
        _try_to_write(file.parent)
        if not made or not file.stat().st_size:
            return
    try:
        with _impatient():
            Delivery(uri, experiment, "").check()
    except Exception as error:  # whatever MLflow, its server or database say
        why = permanent_fault(error, uri)
        if why is not None:
            raise ConfigError(f"tracking.uri: {masked(uri)}: {why}") from error
        said = masked(str(error).splitlines()[0] if str(error) else type(error).__name__)
        log.warning("tracking: %s does not answer now; rows wait on disk until it does (%s)", masked(uri), said[:300])


def _try_to_write(folder: Path) -> None:
    """SQLite makes files beside its own; what the rights do not say (``/proc``, a file system that is read-only)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in FULL:
            raise ConfigError(f"tracking.uri: in {folder} nothing can be written ({error.strerror})") from error


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_S)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
