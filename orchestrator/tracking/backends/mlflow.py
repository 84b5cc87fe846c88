"""Events into MLflow: the only module that knows it."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.console.permissions import user_name
from orchestrator.spec.tracking_uri import artifact_location, sqlite_file
from orchestrator.tracking.backends.mlflow_faults import TrackingRefused
from orchestrator.tracking.description import fitted
from orchestrator.tracking.spool import Event
from workers.processes.masking import masked

log = logging.getLogger(__name__)

TOGETHER = ("metrics", "file")
"""Kinds of events that the server takes many of at once."""
RUNS_A_PAGE = 1000
LINK = re.compile(r"\{\{run:([^{}]+)\}\}")


CONTENT: dict[str, dict[str, type | tuple[type, ...]]] = {
    "start": {"name": str, "parent": (str, type(None)), "tags": dict, "params": dict},
    "metrics": {"metrics": dict, "step": int},
    "file": {"path": str, "bytes": int, "folder": str},
    "tags": {"tags": dict},
    "describe": {"text": str},
    "dataset": {"name": str, "digest": str, "source": str, "context": str},
    "end": {"status": str},
}
"""Kind of event -> what it holds beside its run and time."""


def is_event(event: Event) -> bool:
    """Whether an event can be written: one that lacks something would block everything behind it for ever."""
    content = {"run": str, "time": int} | CONTENT.get(str(event.get("kind")), {"no such kind": int})
    return all(isinstance(event.get(name, ...), kind) for name, kind in content.items())


def _grouped(events: list[Event]) -> list[list[Event]]:
    """Consecutive metrics of one run together, so its consecutive files for one folder, the rest alone; order kept."""
    groups: list[list[Event]] = []
    for event in events:
        last = groups[-1][-1] if groups else None
        if last and event["kind"] in TOGETHER and _place(last) == _place(event):
            groups[-1].append(event)
        else:
            groups.append([event])
    return groups


def _place(event: Event) -> tuple[str, str, str]:
    return event["kind"], event["run"], event.get("folder", "")


class UnknownRun(Exception):
    """An event of a run that was never started: waiting would block everything behind it for ever."""


class Delivery:
    """Writes events to MLflow; used by the writer thread alone. Writing an event twice changes nothing."""

    def __init__(
        self, uri: str, experiment: str, sweep_id: str, refuse: Callable[[Event, str], None] = lambda event, why: None
    ) -> None:
        """``refuse`` keeps an event that MLflow understands and will never take, with what it says."""
        self.uri, self.experiment, self.sweep_id, self.refuse = uri, experiment, sweep_id, refuse
        self.client: Any = None
        self.experiment_id = ""
        self.runs: dict[str, str] = {}
        self.listed = False
        """Whether ``runs`` holds all that the server has of this sweep: nobody else starts any."""

    def write(self, events: list[Event]) -> None:
        """In their order.

        Raises:
            TrackingRefused: nothing can be written until somebody changes something.
            Exception: whatever MLflow and what is below it raise; trying again may help.
        """
        for group in _grouped(events):
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
                self.client, self.runs, self.listed = None, {}, False
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

    def check(self) -> None:
        """See that the experiment can be used, or made; makes nothing.

        Raises:
            TrackingRefused: it was deleted, or its name is not allowed.
            Exception: as of ``write``.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.utils.validation import _validate_experiment_name

        try:
            _validate_experiment_name(self.experiment)
        except MlflowException as error:
            raise TrackingRefused(f"the experiment's name {self.experiment!r} is not allowed: {error}") from error
        found = self._open().get_experiment_by_name(self.experiment)
        if found is not None:
            self._refuse_deleted(found)

    def _open(self) -> Any:
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
        if (file := sqlite_file(self.uri)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        return mlflow.MlflowClient(self.uri)

    def _connect(self) -> None:
        if self.client is not None:
            return
        client = self._open()
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            location = artifact_location(self.uri, self.experiment)
            self.experiment_id = client.create_experiment(self.experiment, artifact_location=location)
        else:
            self._refuse_deleted(found)
            self.experiment_id = found.experiment_id
        self.client = client

    def _look_at_experiment(self) -> None:
        self._refuse_deleted(self.client.get_experiment(self.experiment_id))

    def _refuse_deleted(self, experiment: Any) -> None:
        if experiment.lifecycle_stage != "deleted":
            return
        variable = f"MLFLOW_TRACKING_URI={shlex.quote(masked(self.uri))}"
        raise TrackingRefused(
            f"the experiment {self.experiment!r} was deleted; restore it with `{variable} mlflow experiments restore"
            f" --experiment-id {experiment.experiment_id}`, or give another `tracking.experiment`"
        )

    def _id(self, run: str) -> str:
        """MLflow's id of one of our runs.

        Raises:
            UnknownRun: it was never started.
        """
        if run not in self.runs and not self.listed:
            self._list_runs()
        if run not in self.runs:
            raise UnknownRun("this run was never started")
        return self.runs[run]

    def _list_runs(self) -> None:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`aream.sweep` = '{self.sweep_id}'",
                max_results=RUNS_A_PAGE,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in page:  # of two with one name the newer stays, as a single search would find it
                self.runs.setdefault(run.data.tags["aream.run"], run.info.run_id)
            token = page.token
            if not token:
                break
        self.listed = True

    def _start(self, event: Event) -> None:
        from mlflow.entities import Param, RunTag

        try:
            run_id = self._id(event["run"])
        except UnknownRun:
            tags = {
                **event["tags"],
                "aream.sweep": self.sweep_id,
                "aream.run": event["run"],
                "mlflow.runName": event["name"],
                "mlflow.user": user_name(os.geteuid()),
            }
            if event["parent"]:
                tags["mlflow.parentRunId"] = self._id(event["parent"])
            self.listed = False  # until the answer is here: a lost answer may be that of a run that was made
            created = self.client.create_run(
                self.experiment_id, start_time=event["time"], tags=tags, run_name=event["name"]
            )
            run_id = self.runs[event["run"]] = created.info.run_id
            self.listed = True
            known = {}
        else:
            self.client.set_terminated(run_id, "RUNNING")
            tags = {**event["tags"], "mlflow.runName": event["name"]}
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            known = self.client.get_run(run_id).data.params
        new = {key: value for key, value in event["params"].items() if key not in known}
        changed = {f"now.{k}": v for k, v in event["params"].items() if k in known and known[k] != v}
        self.client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in new.items()],
            tags=[RunTag(key, value) for key, value in changed.items()],  # params are immutable
        )

    def _metrics(self, group: list[Event]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, event["time"], event["step"])
            for event in group
            for name, value in event["metrics"].items()
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self._id(group[0]["run"]), metrics=metrics[start : start + 1000])

    def _file(self, group: list[Event]) -> None:
        left = []
        for event in group:
            path = Path(event["path"])
            if path.exists() and path.stat().st_size != event["bytes"]:  # by a power cut
                log.warning("%s of %s is damaged and left out; what it shows is in the report", path.name, event["run"])
            elif path.exists():  # gone where an earlier delivery of the event succeeded
                left.append(path)
        run_id, folder = self._id(group[0]["run"]), group[0]["folder"] or None
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

    def _artifacts(self, run_id: str) -> Any:
        """Where a run's files go. The client's own methods would keep one of these with its threads for every run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self.client.get_run(run_id).info.artifact_uri, tracking_uri=self.uri)

    def _tags(self, event: Event) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, str(value)) for key, value in event["tags"].items()]
        self.client.log_batch(self._id(event["run"]), tags=tags)

    def _describe(self, event: Event) -> None:
        def link(match: re.Match[str]) -> str:
            try:
                return f"#/experiments/{self.experiment_id}/runs/{self._id(match[1])}"
            except UnknownRun:
                return "#"

        self.client.set_tag(self._id(event["run"]), "mlflow.note.content", fitted(LINK.sub(link, event["text"])))

    def _dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(event["name"], event["digest"], "local", event["source"])
        tags = [InputTag("mlflow.data.context", event["context"])]
        self.client.log_inputs(self._id(event["run"]), [DatasetInput(dataset, tags)])

    def _end(self, event: Event) -> None:
        self.client.set_terminated(self._id(event["run"]), event["status"], end_time=event["time"])
