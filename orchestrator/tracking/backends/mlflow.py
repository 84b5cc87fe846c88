"""Runs in MLflow, on a server or in a database: the only module that knows it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aream.config import config
from aream.errors import ConfigError
from orchestrator.console.permissions import user_name
from orchestrator.spec.sqlite_uri import sqlite_file
from orchestrator.tracking.backends._mlflow_client import open_client
from orchestrator.tracking.backends._mlflow_faults import faults_told, impatient, refuse_deleted
from orchestrator.tracking.backends._mlflow_images import FOLDER, write_image
from orchestrator.tracking.backends._mlflow_limits import allowed_name, allowed_run_name, allowed_value, fitted
from orchestrator.tracking.backends._mlflow_locations import follow_move as follow_move
from orchestrator.tracking.backends._mlflow_locations import location_now
from orchestrator.tracking.backends._mlflow_pages import address, run_page
from orchestrator.tracking.backends._mlflow_pages import landing_pages as landing_pages
from orchestrator.tracking.backends._mlflow_runs import Runs, UnknownRun
from orchestrator.tracking.backends._mlflow_view import experiment_tags
from orchestrator.tracking.backends.protocol import Backend, Delivery, Refuse, TrackingRefused
from orchestrator.tracking.events import Event, grouped, kept_file
from orchestrator.tracking.local_ui import ui_command
from orchestrator.tracking.mlflow_uri import (
    SERVERS,
    VARIABLE,
    artifact_location,
    mlflow_ui,
    record_uri,
    refuse_relative_file,
    refuse_unusable_file,
)
from orchestrator.workspace import Workspace
from workers.processes.masking import masked

TOGETHER = ("metrics", "file")
"""Kinds of events that the server takes many of at once."""
MOST_PARAMS = 100
"""That MLflow takes at once."""
LINK = re.compile(r"\{\{run:([^{}]+)\}\}")


@config
class Config:
    uri: str | None = None
    """MLflow tracking URI; null: MLFLOW_TRACKING_URI, else sqlite in the runs folder."""
    experiment: str | None = None
    """MLflow experiment; null: the sweep's name."""


def open_backend(config: Config, workspace: Workspace, home: Path) -> MlflowBackend:
    """Open the backend at the URI of the sweep file, the environment, or the runs folder."""
    uri = record_uri(config.uri, workspace.runs, home)
    return MlflowBackend(uri, config.experiment or workspace.name, ui_command(workspace))


def check_job(config: Config, variables: Collection[str]) -> None:
    if config.uri is None and VARIABLE not in variables:
        raise ConfigError(
            f"tracking.uri: not given; set it in the sweep, in the lab's `overrides`, or as {VARIABLE} in the lab's"
            " `environment`"
        )
    if config.uri is not None:
        refuse_relative_file(config.uri)


class MlflowBackend(Backend):
    def __init__(self, uri: str, experiment: str, shown_by: str = "") -> None:
        """
        Args:
            uri: absolute.
            shown_by: the command that shows a record that no server has.
        """
        self.uri, self.experiment, self.shown_by = uri, experiment, shown_by
        self.where, self.remote, self.part = masked(uri), uri.startswith(SERVERS), experiment

    def check(self) -> str | None:
        """Ask for the experiment; makes no database."""
        file = sqlite_file(self.uri)
        if file is not None:
            refuse_unusable_file(file)
            if not file.exists() or not file.stat().st_size:
                return None
        try:
            with impatient():
                MlflowDelivery(self.uri, self.experiment, "").check()
        except TrackingRefused as error:
            raise ConfigError(f"tracking.uri: {self.where}: {error}") from error
        except Exception as error:  # whatever MLflow, its server or database say
            said = masked(str(error).splitlines()[0] if str(error) else type(error).__name__)
            return f"{self.where} does not answer now; rows wait on disk until it does ({said[:300]})"
        return None

    def browse(self) -> str:
        """Of a server the page of the sweep, where it is there."""
        if not self.remote:  # a password that no command knows is for somebody to fill in
            return self.shown_by if self.shown_by and masked(self.uri) == self.uri else mlflow_ui(self.uri)
        base, page = address(self.uri) or masked(self.uri), landing_pages(self.uri).get(self.experiment)
        return base if page is None else f"{base}/{page}"

    def delivery(self, sweep_id: str, refuse: Refuse) -> MlflowDelivery:
        return MlflowDelivery(self.uri, self.experiment, sweep_id, refuse)


class MlflowDelivery(Delivery):
    """Writes events to MLflow; used by the writer thread alone. Writing an event twice changes nothing."""

    def __init__(self, uri: str, experiment: str, sweep_id: str, refuse: Refuse = lambda event, why: None) -> None:
        self.uri, self.experiment, self.sweep_id, self.refuse = uri, experiment, sweep_id, refuse
        self.client: Any = None
        self.experiment_id = ""
        self.runs: Any = None
        """``Runs`` of the client."""

    def write(self, events: list[Event]) -> None:
        with faults_told(self.uri):
            for group in grouped(events, TOGETHER):
                self._write(group)

    def _write(self, group: list[Event]) -> None:
        """Events of one kind; more than one only of those that the server takes together."""
        from mlflow.exceptions import MlflowException

        self._connect()
        event = group[0]
        try:
            if event["kind"] in TOGETHER:
                getattr(self, f"_{event['kind']}")(group)
            else:
                getattr(self, f"_{event['kind']}")(event)
        except UnknownRun as error:
            self._look_at_experiment()
            for each in group:
                self.refuse(each, str(error))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # somebody purged it: what is there is looked up anew
                self.client = None
                raise
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"):
                raise
            self._look_at_experiment()
            if len(group) > 1:  # one of them is to blame
                for each in group:
                    self._write([each])
                return
            # The server understood and refuses: repeating it would block everything behind it for ever.
            self.refuse(event, str(error))

    def pages(self) -> Mapping[str, str]:
        base = address(self.uri)
        if base is None or self.runs is None:
            return {}
        return {run: f"{base}/{run_page(self.experiment_id, own)}" for run, own in dict(self.runs.known).items()}

    def check(self) -> None:
        """Check that the experiment can be used, or made; makes nothing.

        Raises:
            TrackingRefused: it was deleted, or its name is not allowed.
            Exception: whatever MLflow and what is below it raise.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.utils.validation import _validate_experiment_name

        try:
            _validate_experiment_name(self.experiment)
        except MlflowException as error:
            raise TrackingRefused(f"the experiment's name {self.experiment!r} is not allowed: {error}") from error
        with faults_told(self.uri):
            found = open_client(self.uri).get_experiment_by_name(self.experiment)
        if found is not None:
            refuse_deleted(found, self.uri)

    def _connect(self) -> None:
        if self.client is not None:
            return
        follow_move(self.uri)
        client = open_client(self.uri)
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            location = artifact_location(self.uri, self.experiment)
            self.experiment_id = client.create_experiment(self.experiment, artifact_location=location)
        else:
            refuse_deleted(found, self.uri)
            self.experiment_id = found.experiment_id
        self.client, self.runs = client, Runs(client, self.experiment_id, self.sweep_id)

    def _look_at_experiment(self) -> None:
        refuse_deleted(self.client.get_experiment(self.experiment_id), self.uri)

    def _start(self, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        name = allowed_run_name(event["name"])
        tags = {**event["tags"], "mlflow.runName": name}
        if source := tags.pop("aream.source", None):
            tags |= {"mlflow.source.name": source, "mlflow.source.type": "PROJECT"}
        params = {allowed_name(key): allowed_value(value) for key, value in event["params"].items()}
        try:
            run_id = self.runs.id(event["run"])
        except UnknownRun:
            tags["mlflow.user"] = user_name(os.geteuid())
            if event["parent"]:
                tags["mlflow.parentRunId"] = self.runs.id(event["parent"])
            run_id = self.runs.create(event["run"], start_time=event["time"], tags=tags, run_name=name)
            known, told = {}, {}
        else:
            self.client.set_terminated(run_id, "RUNNING")
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            data = self.client.get_run(run_id).data
            known, told = data.params, data.tags
        new = {key: value for key, value in params.items() if key not in known}
        changed = {f"now.{k}": v for k, v in params.items() if k in known and told.get(f"now.{k}", known[k]) != v}
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in changed.items()])  # params stay
        left = [Param(key, value) for key, value in new.items()]
        for start in range(0, len(left), MOST_PARAMS):
            self.client.log_batch(run_id, params=left[start : start + MOST_PARAMS])

    def _metrics(self, group: list[Event]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(allowed_name(name), value, event["time"], event["step"])
            for event in group
            for name, value in event["metrics"].items()
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.runs.id(group[0]["run"]), metrics=metrics[start : start + 1000])

    def _file(self, group: list[Event]) -> None:
        left = [path for event in group if (path := kept_file(event)) is not None]
        run_id, folder = self.runs.id(group[0]["run"]), group[0]["folder"] or None
        if left:
            artifacts = self._artifacts(run_id)
            if len(left) == 1:
                artifacts.log_artifact(str(left[0]), folder)
            else:
                with tempfile.TemporaryDirectory() as together:
                    for path in left:
                        shutil.copyfile(path, Path(together) / path.name)
                    artifacts.log_artifacts(together, folder)
        for path in left:
            shutil.rmtree(path.parent)

    def _image(self, event: Event) -> None:
        from mlflow.entities import RunTag
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        if (path := kept_file(event)) is None:
            return
        run_id = self.runs.id(event["run"])
        with tempfile.TemporaryDirectory() as together:
            write_image(Path(together), path, event["name"], event["time"], run_id)
            self._artifacts(run_id).log_artifacts(together, FOLDER)
        self.client.log_batch(run_id, tags=[RunTag(MLFLOW_LOGGED_IMAGES, "True")])
        shutil.rmtree(path.parent)

    def _table(self, event: Event) -> None:
        for key, value in experiment_tags(event["metrics"], event["params"], event["best"]).items():
            self.client.set_experiment_tag(self.experiment_id, key, value)

    def _artifacts(self, run_id: str) -> Any:
        """Open a run's artifact repository; the client's own methods would keep one, with its threads, per run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        location = location_now(self.uri, self.client.get_run(run_id).info.artifact_uri)
        return get_artifact_repository(location, tracking_uri=self.uri)

    def _tags(self, event: Event) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, str(value)) for key, value in event["tags"].items()]
        self.client.log_batch(self.runs.id(event["run"]), tags=tags)

    def _describe(self, event: Event) -> None:
        def link(match: re.Match[str]) -> str:
            try:
                return f"#/experiments/{self.experiment_id}/runs/{self.runs.id(match[1])}"
            except UnknownRun:
                return "#"

        text = fitted(LINK.sub(link, event["text"]))
        self.client.set_tag(self.runs.id(event["run"]), "mlflow.note.content", text)
        self.client.set_experiment_tag(self.experiment_id, "mlflow.note.content", text)

    def _dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(event["name"], event["digest"], "local", event["source"])
        tags = [InputTag("mlflow.data.context", event["context"])]
        self.client.log_inputs(self.runs.id(event["run"]), [DatasetInput(dataset, tags)])

    def _end(self, event: Event) -> None:
        self.client.set_terminated(self.runs.id(event["run"]), event["status"], end_time=event["time"])
