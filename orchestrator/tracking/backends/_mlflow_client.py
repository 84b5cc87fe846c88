"""MLflow's client with little patience and few words: what waits between tries, and tells of it, is ours."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from orchestrator.spec.sqlite_uri import sqlite_file
from orchestrator.tracking.mlflow_uri import ARTIFACTS, SERVERS


def open_client(uri: str) -> Any:
    """``MlflowClient`` of a server or database; the folder of its file is made."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow
    from mlflow.store.db import utils as databases

    databases.MAX_RETRY_COUNT = 1  # it would try for 100 s; what waits between tries is here
    for noisy in ("alembic", "mlflow.store", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its tracebacks, one a try; what is wrong is told in one line of ours.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if (file := sqlite_file(uri)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    if not uri.startswith(SERVERS):
        from mlflow.tracking._tracking_service.utils import _get_store

        # A new database gets a first experiment by SQL with the place of its files in it as it stands, the working
        # folder's by default: signs that SQL gives a meaning would keep the database from ever being used.
        place = Path.cwd() / "mlruns" if file is None else file.parent.absolute() / ARTIFACTS
        _get_store(uri, place.as_uri())
    return mlflow.MlflowClient(uri)
