"""The commands a person types, on a real store."""

from __future__ import annotations

import json

import pytest
from artifact_stores import record
from PIL import Image

from orchestrator import artifacts, control
from orchestrator.monitor.control_file import ControlFile
from orchestrator.monitor.state import SweepState
from workers.artifacts.blobs import blob_name
from workers.artifacts.holds import Hold
from workers.artifacts.opening import open_store

CAMS, LABELS = "infer_cam-0123456789abcdef", "pseudo_label-0123456789abcdef"


@pytest.fixture
def store(tmp_path):
    return filled(open_store(None, tmp_path / "artifacts"))


def filled(store):
    store.put(CAMS, store.staging(), record(CAMS))
    source = store.staging()
    (source / "labels").mkdir()
    Image.new("P", (3, 2), 1).save(source / "labels" / "a.png")
    store.put(LABELS, source, record(LABELS, inputs={"cams": CAMS}))
    return store


@pytest.fixture
def run(store, tmp_path, capsys):
    def command(*arguments: str, expect: int = 0) -> str:
        assert artifacts.main(["--store", str(tmp_path / "artifacts"), *arguments]) == expect
        shown = capsys.readouterr()
        return shown.out + shown.err

    return command


def test_ls_and_show(run):
    assert [line.split()[0] for line in run("ls").splitlines()] == [CAMS, LABELS]
    assert run("ls", "infer_cam").count("\n") == 1
    assert "given 'infer': no artifact is of such a stage; there are: infer_cam, pseudo_label" in run(
        "ls", "infer", expect=2
    )
    shown = run("show", "pseudo_label-0123")
    assert f"cams: {CAMS}" in shown
    assert "labels/a.png" in shown
    assert LABELS in run("show", CAMS)
    content = json.loads(run("show", LABELS, "--json"))
    assert (content["record"]["key"], content["ancestors"]) == (LABELS, [CAMS])


def test_a_key_must_name_one_artifact(run):
    assert "names 2 artifacts" in run("show", "0123", expect=2)
    assert "names 0 artifacts" in run("show", "../../etc", expect=2)


def test_verify(run, store):
    assert "2 artifacts read, 0 damaged" in run("verify")
    blob = next(iter(store.files(store.record(LABELS)))).blob
    store.storage.write(blob_name(blob), b"damaged")
    assert "1 damaged" in run("verify", expect=1)
    assert "1 damaged and forgotten" in run("verify", "--discard", expect=1)
    assert list(store.keys()) == [CAMS]


def test_export(run, tmp_path):
    assert "1 label map of" in run("export", LABELS, str(tmp_path / "voc"))
    assert (tmp_path / "voc" / "SegmentationClassAug" / "a.png").exists()
    assert "is there already" in run("export", LABELS, str(tmp_path / "voc"), expect=2)


def test_views_of_a_store_elsewhere_lie_in_the_runs_folder(bucket, s3_endpoint, tmp_path, monkeypatch):
    uri = f"s3://{bucket}"
    filled(open_store(uri, tmp_path / "there" / "artifacts", s3_endpoint))
    monkeypatch.chdir(tmp_path)
    assert artifacts.main(["export", LABELS, "labels", "--store", uri, "--endpoint", s3_endpoint]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"there", "labels", "runs"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cache"]


def test_gc(run, store):
    with Hold(store.storage, "5eed", "alphas") as hold:
        hold.add([CAMS])
        hold.save()
        assert "5eed  alphas  1 artifact  running" in run("sweeps")
        assert "is running" in run("gc", "--forget", "5eed", expect=2)
    assert f"records/{LABELS}.json" in run("gc", "--dry-run", "--grace", "0")
    assert list(store.keys()) == [CAMS, LABELS]
    run("gc", "--grace", "0")
    assert list(store.keys()) == [CAMS]
    assert "is no sweep here; there are: 5eed" in run("gc", "--forget", "other", expect=2)
    run("gc", "--grace", "0", "--forget", "5eed")
    assert list(store.keys()) == []
    assert "--grace" in run("gc", "--grace", "-1", expect=2)


def test_control_writes_orders(tmp_path, capsys):
    folder = tmp_path / "runs" / "alphas"
    folder.mkdir(parents=True)
    keys = ["train_cam-0123456789abcdef", "train_cam-fedcba9876543210"]
    state = SweepState(folder / "state.json", "alphas")
    for key in keys:
        state.add(key, key, "trial", 1)
    state.add("warmup-0123456789abcdef", "warm-up", "shared stage", 1)
    state.save()

    def order(*arguments: str, expect: int = 0) -> ControlFile:
        assert control.main(["alphas", "--runs", str(tmp_path / "runs"), *arguments]) == expect
        return ControlFile.read(folder / "orders.json")

    assert order("pause").sweep == "pause"
    assert order("stop", "--trial", "fedc") == ControlFile("pause", {keys[1]: "stop"})
    assert order("resume", "--trial", keys[1]) == ControlFile("pause", {})
    assert order("resume").sweep == "run"
    order("stop", "--trial", "train_cam", expect=2)
    assert "names 2 trials" in capsys.readouterr().err
    order("stop", "--trial", "warmup", expect=2)
