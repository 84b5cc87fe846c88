"""Event files for TensorBoard in the sweep's folder: a folder a run, those of its variants and jobs within it."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from aream.config import config
from orchestrator.tracking.backends.protocol import Backend, Delivery, Refuse
from orchestrator.tracking.check import refuse_unwritable
from orchestrator.tracking.events import Event, kept_file
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from orchestrator.tracking.backends._event_file import EventFile

FILE = "events.out.tfevents.aream"
ID_LENGTH, LONGEST_NAME = 12, 80
NOT_IN_A_NAME = re.compile(r"[^\w .,=+-]+")
LINK = re.compile(r"\[([^\]]*)\]\(\{\{run:[^{}]+\}\}\)")


@config
class Config:
    """It has no keys."""


def open_backend(config: Config, workspace: Workspace, home: Path) -> TensorboardBackend:
    return TensorboardBackend(workspace.folder / "tensorboard")


class TensorboardBackend(Backend):
    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.where = folder, str(folder)

    def check(self) -> None:
        """A folder that is not there yet is made later."""
        refuse_unwritable(self.folder if self.folder.exists() else self.folder.parent, "tracking")

    def browse(self) -> str:
        return shlex.join(["tensorboard", "--logdir", str(self.folder)])

    def delivery(self, sweep_id: str, refuse: Refuse) -> TensorboardDelivery:
        return TensorboardDelivery(self.folder, sweep_id, refuse)


class TensorboardDelivery(Delivery):
    def __init__(self, folder: Path, sweep_id: str, refuse: Refuse) -> None:
        self.folder, self.sweep_id, self.refuse = folder, sweep_id, refuse
        self.made = {path.name[-ID_LENGTH:]: path for path in folder.rglob("*") if path.is_dir()}
        """Id of a run -> its folder."""
        self.open: dict[str, EventFile] = {}
        """Id of a run that is not finished -> its event file."""

    def write(self, events: list[Event]) -> None:
        try:
            for event in events:
                self._write(event)
        except Exception:
            self.open.clear()  # what came to be written is read again
            raise

    def _write(self, event: Event) -> None:
        from orchestrator.tracking.backends._event_file import EventFile  # tensorboardX takes its time to import

        own = self._id(event["run"])
        if event["kind"] == "start":
            parent = self.made.get(self._id(event["parent"] or ""), self.folder)
            name = NOT_IN_A_NAME.sub("_", event["name"])[:LONGEST_NAME].strip(" .")
            self.made.setdefault(own, parent / f"{name}-{own}")
        if own not in self.made:
            self.refuse(event, "this run was never started")
            return
        if own not in self.open:
            self.open[own] = EventFile(self.made[own] / FILE)
        if event["kind"] in ("file", "image"):
            self._add_picture(event, self.open[own])
        else:
            self.open[own].add(_summaries(event), event.get("step", 0), event["time"] / 1000)
        if event["kind"] == "end":
            del self.open[own]

    def _id(self, run: str) -> str:
        return hashlib.sha256(f"{self.sweep_id} {run}".encode()).hexdigest()[:ID_LENGTH]

    def _add_picture(self, event: Event, file: EventFile) -> None:
        """Other files are left where the sweep has them: in its folder and its store."""
        from tensorboardX.proto.summary_pb2 import Summary

        path = kept_file(event)
        if path is None:
            return
        if path.suffix == ".png":
            with Image.open(path) as picture:
                width, height = picture.size
            shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
            tag = event.get("name") or f"{event['folder']}/{path.stem}".lstrip("/")
            file.add([Summary(value=[Summary.Value(tag=tag, image=shown)])], 0, event["time"] / 1000)
        shutil.rmtree(path.parent)


def _summaries(event: Event) -> list[Any]:
    from tensorboardX import summary

    match event["kind"]:
        case "start":
            shown = [summary.text("run", _table({**event["params"], **event["tags"]}))]
            if event["parent"]:  # the sweep itself has the range of each parameter, not a value
                shown.append(summary.hparams({name: _number(text) for name, text in event["params"].items()}, {})[1])
            return shown
        case "metrics":
            return [summary.scalar(name, value) for name, value in event["metrics"].items()]
        case "tags":
            return [summary.text("tags", _table(event["tags"]))]
        case "describe":
            return [summary.text("description", LINK.sub(r"\1", event["text"]))]
        case "table":  # the viewer has columns of its own
            return []
        case "dataset":
            return [
                summary.text("dataset", _table({key: event[key] for key in ("name", "digest", "source", "context")}))
            ]
        case _:
            return [summary.text("status", event["status"])]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _table(values: Mapping[str, object]) -> str:
    rows = [f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "|---|---|", *rows])
