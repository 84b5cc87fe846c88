"""What every tracking backend promises, read back from what it recorded. A new file in ``backends`` is found by its
name; what it recorded is read by a function of ``READERS``."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from event_files import curves_in_tensorboard, in_tensorboard
from PIL import Image

from aream import discover
from aream.errors import ConfigError
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import SpecError
from orchestrator.tracking import backends
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of mlflow's database layer and tensorboard about their own
NAMES = discover.names(backends)
PATIENCE_S = 300
KILLED = """
import sys
sys.path[:0] = sys.argv[3:]
from test_trackers import killed_at_delivery
killed_at_delivery(sys.argv[1], sys.argv[2])
"""


def workspace(folder: Path) -> Workspace:
    return Workspace(store_uri=None, runs=folder / "runs", name="alphas")


def backend_of(name: str, folder: Path) -> Any:
    module = discover.load(backends, name)
    return module.open_backend(module.Config(), workspace(folder), folder)


def opened(name: str, folder: Path) -> Tracker:
    backend = backend_of(name, folder)
    spool = workspace(folder).folder / "tracking" / name
    return Tracker(backend, "0123456789abcdef", spool) if backend else NoTracker()


def picture(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(content, "png")
    return content.getvalue()


def record(tracker: Tracker) -> None:
    """A sweep and two trials, the second of which goes on."""
    tracker.start_run("sweep", name="alphas", params={"method.alpha_low": "[0.2, 0.3]"}, tags={"aream.kind": "sweep"})
    for number in (1, 2):
        run = f"trial/{number}"
        tracker.start_run(run, name=f"alpha 0.{number}", parent="sweep", params={"alpha": 0.1 * number, "seed": 0})
        for step in (1, 2):
            tracker.log_metrics(run, {"val/map": 0.1 * step + number, "broken": float("nan")}, step)
    tracker.show_table("sweep", ["pseudo/miou", "val/map"], ["method.alpha_low", "seed"], "max")
    tracker.log_image("trial/1", "overlays/first", picture("red"))
    tracker.log_content("trial/1", "curve.png", picture("blue"), "figures")
    tracker.log_content("trial/1", "note.txt", b"note")
    tracker.log_dataset("trial/1", "shapes", "abc", "shapes", "training")
    tracker.set_tags("trial/1", {"aream.code": "1a2b"})
    tracker.end_run("trial/1", "FINISHED")


def go_on(tracker: Tracker) -> None:
    tracker.start_run("sweep", name="alphas", params={"method.alpha_low": "[0.2, 0.3]"}, tags={"aream.kind": "sweep"})
    tracker.start_run("trial/2", name="alpha 0.2", parent="sweep", params={"alpha": 0.2, "seed": 0})
    tracker.log_metrics("trial/2", {"val/map": 2.3}, 3)
    tracker.end_run("trial/2", "KILLED")
    tracker.describe("sweep", "| best |\n|---|\n| [one]({{run:trial/1}}) |")
    tracker.end_run("sweep", "FINISHED")


CURVES = {"trial/1": [(1, 1.1), (2, 1.2)], "trial/2": [(1, 2.1), (2, 2.2), (3, 2.3)]}


def killed_at_delivery(name: str, folder: str) -> None:
    """Dies where half of the events are delivered and nothing of that is remembered."""
    tracker, recorded = opened(name, Path(folder)), threading.Event()
    deliver = tracker.delivery.write

    def write(events) -> None:
        if not recorded.is_set():
            raise ConnectionError("away")
        deliver(events[: len(events) // 2])
        signal.raise_signal(signal.SIGKILL)

    tracker.delivery.write = write
    record(tracker)
    recorded.set()
    tracker.close(PATIENCE_S)


PAGED = ("mlflow",)
"""Backends whose runs have pages to link to."""


def read_mlflow(folder: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    runs = {run.data.tags["aream.run"]: run for run in client.search_runs(["1"])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "sweep": "FINISHED", "trial/1": "FINISHED", "trial/2": "KILLED",
    }  # fmt: skip
    for name, points in CURVES.items():
        run = runs[name]
        assert run.data.tags["mlflow.parentRunId"] == runs["sweep"].info.run_id
        assert run.data.params == {"alpha": str(0.1 * int(name[-1])), "seed": "0"}
        history = client.get_metric_history(run.info.run_id, "val/map")
        assert [(point.step, pytest.approx(point.value)) for point in history] == points
        assert "broken" not in run.data.metrics
    own = runs["trial/1"].info.run_id
    assert [file.path for file in client.list_artifacts(own)] == ["figures", "images", "note.txt"]
    kept = [file.path for file in client.list_artifacts(own, "images")]
    assert sorted(Path(path).suffix for path in kept) == [".png", ".webp"]
    assert all(path.startswith("images/overlays~first+step+0+timestamp+") for path in kept)
    (full,) = (path for path in kept if path.endswith(".png"))
    assert Path(client.download_artifacts(own, full, str(folder))).read_bytes() == picture("red")
    assert runs["trial/1"].data.tags["mlflow.loggedImages"] == "True"
    tags = client.get_experiment("1").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(tags["mlflow.sharedViewState.aream"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`pseudo/miou`", False)
    assert view["selectedColumns"] == [
        "params.`method.alpha_low`", "params.`seed`", "metrics.`pseudo/miou`", "metrics.`val/map`",
    ]  # fmt: skip
    assert tags["mlflow.note.content"] == runs["sweep"].data.tags["mlflow.note.content"]
    assert runs["trial/1"].data.tags["aream.code"] == "1a2b"
    assert f"/runs/{own})" in runs["sweep"].data.tags["mlflow.note.content"]


def read_tensorboard(folder: Path) -> None:
    root = workspace(folder).folder / "tensorboard"
    found, curves = in_tensorboard(root), curves_in_tensorboard(root)
    titles = sorted(found)
    assert [title.split("/")[-1].rpartition("-")[0] for title in titles] == ["alphas", "alpha 0.1", "alpha 0.2"]
    assert all(title.startswith(f"{titles[0]}/") for title in titles[1:])
    assert curves[titles[0]] == {}
    for title, points in zip(titles[1:], CURVES.values(), strict=True):
        assert curves[title] == {"val/map": [(step, pytest.approx(value)) for step, value in points]}
        assert "_hparams_/session_start_info" in found[title].PluginTagToContent("hparams")
    first = found[titles[1]]
    (image,) = first.Images("overlays/first")
    assert (image.width, image.height) == (4, 3)
    assert image.encoded_image_string == picture("red")
    assert "| aream.code | 1a2b |" in text(first, "tags")
    assert [text(found[title], "status") for title in titles] == ["FINISHED", "FINISHED", "KILLED"]
    assert text(found[titles[0]], "description").endswith("| one |")


def text(events: Any, tag: str) -> str:
    (event,) = events.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def read_none(folder: Path) -> None:
    assert not list(folder.rglob("*"))


READERS = {"mlflow": read_mlflow, "none": read_none, "tensorboard": read_tensorboard}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_recorded_survives_a_kill_and_is_there_once(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert name in READERS, f"{name}: add a function to READERS that reads back what it recorded"
    backend = backend_of(name, tmp_path)
    if backend is None:
        tracker = opened(name, tmp_path)
        record(tracker)
        go_on(tracker)
        assert tracker.pages(PATIENCE_S) is None
        assert (tracker.left(), tracker.close(PATIENCE_S)) == (0, 0)
        READERS[name](tmp_path)
        return
    workspace(tmp_path).folder.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert backend.check() is None
    assert sorted(tmp_path.rglob("*")) == before
    assert str(tmp_path) in backend.browse()
    root = Path(__file__).resolve().parents[2]
    here = [str(root / "tests" / "support"), str(root / "tests" / "contracts"), str(root)]
    done = subprocess.run([sys.executable, "-c", KILLED, name, str(tmp_path), *here], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    tracker = opened(name, tmp_path)
    go_on(tracker)
    pages = tracker.pages(PATIENCE_S)
    assert pages.command == backend.browse()
    assert set(pages.runs) == ({"sweep", "trial/1", "trial/2"} if name in PAGED else set())
    assert len(set(pages.runs.values())) == len(pages.runs)
    assert all(page.startswith("http://127.0.0.1:5000/#/") for page in pages.runs.values())
    assert (tracker.close(PATIENCE_S), tracker.refused) == (0, 0), tracker.problem
    READERS[name](tmp_path)
    offset = tracker.spool_dir / "offset"
    offset.unlink()  # where it is lost, everything is delivered once more
    again = opened(name, tmp_path)
    assert (again.close(PATIENCE_S), again.refused) == (0, 0)
    READERS[name](tmp_path)
    assert not list((tracker.spool_dir / "files").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_event_of_a_run_that_never_started_blocks_nothing(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = opened(name, tmp_path)
    tracker.log_metrics("never/started", {"val/map": 1.0}, 1)
    tracker.start_run("sweep", name="alphas")
    tracker.end_run("sweep", "FINISHED")
    assert tracker.close(PATIENCE_S) == 0
    assert tracker.refused == tracker.records


@pytest.mark.parametrize("name", NAMES)
def test_its_keys_are_frozen_and_have_defaults(name):
    config = discover.load(backends, name).Config()
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen


@pytest.mark.slow
@pytest.mark.parametrize("torn", [1, 5, 30])
def test_a_torn_event_file_goes_on_where_it_was_whole(tmp_path, torn):
    tracker = opened("tensorboard", tmp_path)
    record(tracker)
    assert tracker.close(PATIENCE_S) == 0
    (second,) = workspace(tmp_path).folder.rglob("alpha 0.2-*/*tfevents*")
    with second.open("r+b") as file:
        file.truncate(second.stat().st_size - torn)
    (tracker.spool_dir / "offset").unlink()
    again = opened("tensorboard", tmp_path)
    go_on(again)
    assert again.close(PATIENCE_S) == 0
    read_tensorboard(tmp_path)


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    place = workspace(tmp_path).folder
    place.mkdir(parents=True)
    (place / "tensorboard").write_text("a file")
    with pytest.raises(ConfigError, match=r"tracking: in .*tensorboard nothing can be written"):
        backend_of("tensorboard", tmp_path).check()


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(section: str):
        (tmp_path / "s.yaml").write_text(f"name: s\n{section}\n")
        return load_spec(tmp_path / "s.yaml").tracking

    return read


@pytest.mark.parametrize(
    ("section", "name", "uri"),
    [
        ("", "mlflow", None),
        ("tracking: {uri: 'http://mlflow:5000'}", "mlflow", "http://mlflow:5000"),
        ("tracking: {name: mlflow, uri: 'http://mlflow:5000'}", "mlflow", "http://mlflow:5000"),
        ("tracking: {experiment: mine}", "mlflow", None),
        ("tracking: none", "none", None),
        ("tracking: {name: tensorboard}", "tensorboard", None),
    ],
)
def test_the_section_names_a_backend(read, section, name, uri):
    found = read(section)
    assert (found.name, getattr(found.config, "uri", None)) == (name, uri)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("tracking: {name: wandb}", r"s\.yaml:2: tracking\.name: .*no 'wandb'; it has: mlflow, none, tensorboard"),
        ("tracking: {name: none, uri: x}", r"s\.yaml:2: tracking\.uri: unknown key"),
        ("tracking:\n  url: x", r"s\.yaml:3: tracking\.url: unknown key \(did you mean uri\?\)"),
        ("tracking: 7", r"s\.yaml:2: tracking: given 7; need a name or a section with a name"),
    ],
)
def test_what_is_no_backend_is_told_with_its_line(read, section, words):
    with pytest.raises(SpecError, match=words) as caught:
        read(section)
    assert len(caught.value.problems) == 1
