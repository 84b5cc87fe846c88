"""The one writer of MLflow. Calls append to a spool and return; a thread delivers, and waits out a dead server.

Runs have names of our own ("sweep", "trial/KEY"): MLflow's run is found again by its tags, so a retry, a resumed
sweep or a replayed spool continues the run it began instead of making another.
"""

from __future__ import annotations

import getpass
import logging
import math
import os
import random
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.spool import Event, Spool

log = logging.getLogger(__name__)

BATCH = 500
PARAM_LENGTH = 6000
TOGETHER = ("metrics", "file")
"""Kinds of events that the server takes many of at once."""
RUNS_A_PAGE = 1000
LONGEST_WAIT_S = 30.0
LINK = re.compile(r"\{\{run:([^{}]+)\}\}")
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_\-. /:]")


class Tracker:
    """Records a sweep's runs; ``close`` before the process ends."""

    def __init__(self, uri: str, experiment: str, sweep_id: str, spool_dir: Path, default_uri: str) -> None:
        self.uri = uri or default_uri
        self.spool_dir = spool_dir
        self.spool = Spool(spool_dir)
        self.problem: str | None = None
        """Why nothing can be delivered at the moment."""
        self.delivery = _Delivery(self.uri, experiment, sweep_id)
        self.closing = threading.Event()
        self.news = threading.Event()
        self.deadline = math.inf
        self.thread = threading.Thread(target=self._deliver, name="tracking", daemon=True)
        self.thread.start()

    def start_run(
        self,
        run: str,
        *,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> None:
        values = {NOT_IN_A_NAME.sub("_", key): str(value)[:PARAM_LENGTH] for key, value in (params or {}).items()}
        self._append("start", run, name=name, parent=parent, tags=dict(tags or {}), params=values)

    def log_metrics(self, run: str, metrics: Mapping[str, float], step: int) -> None:
        """Numbers that are not finite are left out."""
        finite = {NOT_IN_A_NAME.sub("_", k): float(v) for k, v in metrics.items() if math.isfinite(v)}
        if finite:
            self._append("metrics", run, metrics=finite, step=step)

    def log_file(self, run: str, path: Path, folder: str = "") -> None:
        """Keep a file with the run; it is copied at once, so it may change afterwards."""
        self.log_content(run, path.name, path.read_bytes(), folder)

    def log_content(self, run: str, name: str, content: bytes, folder: str = "") -> None:
        """Keep bytes with the run as a file."""
        kept = self.spool_dir / "files" / uuid.uuid4().hex / name
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)
        self._append("file", run, path=str(kept), folder=folder)

    def set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        self._append("tags", run, tags=dict(tags))

    def describe(self, run: str, markdown: str) -> None:
        """The run's description; ``{{run:NAME}}`` becomes the link to that run."""
        self._append("describe", run, text=markdown)

    def log_dataset(self, run: str, name: str, digest: str, source: str, context: str) -> None:
        self._append("dataset", run, name=name, digest=digest, source=source, context=context)

    def end_run(self, run: str, status: str) -> None:
        """``status`` is FINISHED, FAILED or KILLED."""
        self._append("end", run, status=status)

    def close(self, timeout_s: float) -> int:
        """Deliver what is left; returns how many events wait for the next time because the server is away."""
        self.deadline = time.monotonic() + timeout_s
        self.closing.set()
        self.news.set()
        self.thread.join(timeout_s + 1)
        left = self.spool.left()
        self.spool.close()
        return left

    def _append(self, kind: str, run: str, **content: Any) -> None:
        self.spool.append({"kind": kind, "run": run, "time": int(time.time() * 1000), **content})
        self.news.set()

    def _deliver(self) -> None:
        """The thread: in order, in batches, until closed and empty or out of time."""
        wait = 0.5
        while True:
            events = self.spool.pending(BATCH)
            if not events:
                self.problem = None
                if self.closing.is_set():
                    return
                self.news.wait(1.0)
                self.news.clear()
                continue
            try:
                for group in _grouped([event for event, _ in events]):
                    self.delivery.write(group)
            except Exception as error:  # whatever the server or its database does must not reach the training
                self.problem = f"{self.uri}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
                log.warning("tracking waits: %s", self.problem)
                if time.monotonic() + wait > self.deadline:
                    return
                self.closing.wait(wait * random.uniform(0.5, 1.5))
                if self.closing.is_set():
                    time.sleep(min(wait, 1.0))
                wait = min(wait * 2, LONGEST_WAIT_S)
            else:
                self.spool.done(events[-1][1])
                wait = 0.5
                if time.monotonic() > self.deadline:
                    return


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


class _Delivery:
    """Writes events to MLflow; used by the writer thread alone. Writing an event twice changes nothing."""

    def __init__(self, uri: str, experiment: str, sweep_id: str) -> None:
        self.uri, self.experiment, self.sweep_id = uri, experiment, sweep_id
        self.client: Any = None
        self.experiment_id = ""
        self.runs: dict[str, str] = {}
        self.listed = False
        """Whether ``runs`` holds all that the server has of this sweep: nobody else starts any."""

    def write(self, group: list[Event]) -> None:
        import mlflow
        from mlflow.exceptions import MlflowException

        self._connect(mlflow)
        event = group[0]
        try:
            if event["kind"] in TOGETHER:
                getattr(self, f"_{event['kind']}")(group)
            else:
                getattr(self, f"_{event['kind']}")(event)
        except UnknownRun as error:
            log.warning("%s of %s is dropped: %s", event["kind"], event["run"], error)
        except MlflowException as error:
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"):
                raise
            # The server understood and refuses: repeating it would block everything behind it for ever.
            log.warning("MLflow refuses %s of %s: %s", event["kind"], event["run"], error)

    def _connect(self, mlflow: Any) -> None:
        if self.client is not None:
            return
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        for noisy in ("alembic", "mlflow.store", "mlflow.tracking"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        client = mlflow.MlflowClient(self.uri)
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            location = None
            if self.uri.startswith("sqlite:///"):
                # Beside the database, so that both move together.
                folder = Path(self.uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts"
                location = (folder / self.experiment).as_uri()
            self.experiment_id = client.create_experiment(self.experiment, artifact_location=location)
        else:
            self.experiment_id = found.experiment_id
        self.client = client

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
                "mlflow.user": getpass.getuser(),
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
        paths = [Path(event["path"]) for event in group]
        left = [path for path in paths if path.exists()]  # gone where an earlier delivery of the event succeeded
        run_id, folder = self._id(group[0]["run"]), group[0]["folder"] or None
        if len(left) == 1:
            self.client.log_artifact(run_id, str(left[0]), folder)
        elif left:
            with tempfile.TemporaryDirectory() as together:
                for path in left:
                    shutil.copyfile(path, Path(together) / path.name)
                self.client.log_artifacts(run_id, together, folder)
        for path in left:
            shutil.rmtree(path.parent)

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

        self.client.set_tag(self._id(event["run"]), "mlflow.note.content", LINK.sub(link, event["text"]))

    def _dataset(self, event: Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(event["name"], event["digest"], "local", event["source"])
        tags = [InputTag("mlflow.data.context", event["context"])]
        self.client.log_inputs(self._id(event["run"]), [DatasetInput(dataset, tags)])

    def _end(self, event: Event) -> None:
        self.client.set_terminated(self._id(event["run"]), event["status"], end_time=event["time"])
