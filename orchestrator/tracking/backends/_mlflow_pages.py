"""Pages of MLflow's UI: a sweep's table of configurations, and a run's own."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from orchestrator.tracking.backends._mlflow_client import open_client
from orchestrator.tracking.backends._mlflow_faults import faults_told, impatient
from orchestrator.tracking.backends._mlflow_view import KEY, STATE
from orchestrator.tracking.local_ui import local_address
from orchestrator.tracking.mlflow_uri import SERVERS
from workers.processes.masking import masked

log = logging.getLogger(__name__)

TRAININGS = "workflowType=machine_learning"
"""Else the UI shows its pages for language models."""


def address(uri: str) -> str | None:
    """Where a browser finds the record, without a password: a server, or what `aream ui` starts on this machine; None
    where that cannot be told from the URI (Databricks)."""
    if not uri.startswith(SERVERS):
        return local_address()
    if not uri.startswith("http"):
        return None
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def landing(experiment_id: str) -> str:
    """The page of a sweep's configurations, behind the address of a server."""
    return f"#/experiments/{experiment_id}/runs?{TRAININGS}&viewStateShareKey={KEY}"


def run_page(experiment_id: str, run_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAININGS}"


def landing_pages(uri: str) -> dict[str, str]:
    """Name of each experiment that sweeps were recorded in, the latest first -> its page behind a server's address;
    none where the record does not answer."""
    try:
        with impatient(), faults_told(uri):
            found = open_client(uri).search_experiments(order_by=["last_update_time DESC"])
    except Exception as error:  # whatever MLflow and what is below it raise: it is only a link
        log.info("%s: %s", masked(uri), masked(str(error)))
        return {}
    return {experiment.name: landing(experiment.experiment_id) for experiment in found if STATE in experiment.tags}
