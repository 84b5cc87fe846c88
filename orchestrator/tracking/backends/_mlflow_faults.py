"""Tell permanent errors of the tracking server, its database or MLflow apart from those that may pass."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

from orchestrator.tracking.backends.protocol import TrackingRefused
from orchestrator.tracking.mlflow_uri import VARIABLE
from workers.processes.masking import masked

WORDS = (
    (r"out-of-date database schema|No such revision|Can't locate revision",
     "its tables are of another version of MLflow: back it up, and run `mlflow db upgrade {uri}` with the newer one"),
    (r"filesystem tracking backend|maintenance mode",
     "MLflow supports folders of files no more: use sqlite:///FILE; `mlflow migrate-filestore` moves what is there"),
    (r"file is not a database|database disk image is malformed|no such table|no such column",
     "it is not a database of MLflow's, or a damaged one: name another file"),
    (r"readonly database|unable to open database file|Permission denied|permission denied",
     "it cannot be written by this user"),
    (r"password authentication failed|no password supplied|Access denied|28P01|28000|42501",
     "its database refuses this user or password"),
    (r"database \S+ does not exist|3D000|Unknown database", "its database does not exist"),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError",
     "its certificate is not trusted: name the lab's in MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE"),
    (r"WRONG_VERSION_NUMBER|wrong version number|record layer failure", "it does not speak https: use http://"),
    (r"error code 401|error code 403|UNAUTHENTICATED|PERMISSION_DENIED|Permission denied|not authenticated",
     "it refuses this user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
    (r"error code 404|ENDPOINT_NOT_FOUND|error code 405|Expecting value: line 1",
     "something answers there that is no MLflow server"),
    (r"Invalid url|InvalidUrlException|unsupported URI|Failed to parse|Could not parse|Can't load plugin"
     r"|No host supplied|InvalidSchema|No connection adapters",
     "not a URI that MLflow knows"),
    (r"Unity Catalog tracking URI|Unity Catalog backend",
     "MLflow keeps no runs in Unity Catalog: need sqlite:///FILE, another database, http(s)://HOST or databricks"),
    (r"Databricks credential configuration failed", "Databricks' credentials are not configured"),
    (r"Invalid experiment name", "the name of the experiment is not allowed"),
)  # fmt: skip
"""Pattern found in an error's text -> its meaning, and what to do."""
PASSES = re.compile(r"database is locked|database or disk is full|Connection refused|timed out|error code (429|5\d\d)")


ANSWER_S = 10


@contextlib.contextmanager
def faults_told(uri: str) -> Iterator[None]:
    """Raises what is said for good as ``TrackingRefused``."""
    try:
        yield
    except Exception as error:
        if (why := permanent_fault(error, uri)) is None:
            raise
        raise TrackingRefused(why) from error


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Within it, MLflow's client asks a server once and waits ``ANSWER_S`` seconds."""
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


def permanent_fault(error: BaseException, uri: str) -> str | None:
    """Explain why a retry cannot help, and what can; None: a retry may help."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, TrackingRefused):
            return str(each)
        if isinstance(each, ModuleNotFoundError):
            return f"its database needs the Python package {each.name}, which is not installed"
    said = "\n".join(f"{type(each).__name__}: {each} {getattr(each, 'error_code', '')}" for each in chain)
    if PASSES.search(said):
        return None
    for pattern, words in WORDS:
        if re.search(pattern, said):
            return words.format(uri=shlex.quote(masked(uri)))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def refuse_deleted(experiment: Any, uri: str) -> None:
    """
    Raises:
        TrackingRefused: MLflow's experiment was deleted: it takes no run until it is restored.
    """
    if experiment.lifecycle_stage != "deleted":
        return
    variable = f"{VARIABLE}={shlex.quote(masked(uri))}"
    raise TrackingRefused(
        f"the experiment {experiment.name!r} was deleted; restore it with `{variable} mlflow experiments restore"
        f" --experiment-id {experiment.experiment_id}`, or give another `tracking.experiment`"
    )
