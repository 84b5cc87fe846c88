"""Names and folders that a person may give: each means one place, whatever its signs, or is refused by its key."""

from __future__ import annotations

import os
import shutil

import pytest

from aream.errors import AreamError, ConfigError
from orchestrator.preflight.prepare import prepare
from orchestrator.spec.reader import load_spec
from orchestrator.spec.sqlite_uri import sqlite_file
from orchestrator.workspace import locate
from workers.artifacts.opening import open_store

TINY = """
name: {name}
data: {{name: shapes, train_images: 24, val_images: 12}}
backbone: {{name: mctformer_v2, vit: vit_tiny_patch16_224, patch_size: 8, dim: 48, depth: 2, heads: 2}}
train: {{epochs: 2, warmup_epochs: 1, batch_size: 8, image_size: 64}}
inference: {{image_size: 64}}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def spec(rest: str = "", name: str = "tiny"):
        path = tmp_path / "s.yaml"
        path.write_text(TINY.format(name=name) + rest)
        return load_spec(path)

    return spec


@pytest.mark.parametrize(
    "name",
    [
        "artifacts", "Artifacts", "ARTIFACTS", "staging", "cache", "mlflow-artifacts", "mlflow.db", "mlflow.db-journal",
        "mlflow.db-wal", "x.yaml", "x.YML", "a/b", "/abs", "..", ".", ".hidden", "-x", "'a b'", "a%2Fb", "x#y", "'x?'",
        '"x\\ny"', '"x\\0"', '"x\\n"', "''", "x" * 65, "é", "~root",
    ],
)  # fmt: skip
def test_a_name_that_is_no_folder_of_its_own_is_refused(spec, name):
    with pytest.raises(ConfigError, match=r"s\.yaml:2: name: "):
        spec(name=name)


def test_runs_may_lie_at_home(spec, tmp_path):
    prepared = prepare(spec("runs: ~/aream runs\n"))
    assert prepared.workspace.folder == tmp_path / "home" / "aream runs" / "tiny"
    assert prepared.workspace.folder.is_dir()
    assert not (tmp_path / "~").exists()
    assert sqlite_file(prepared.tracking.uri) == tmp_path / "home" / "aream runs" / "mlflow.db"


@pytest.mark.parametrize(
    ("key", "value"),
    [("runs", "~nobody-of-this-name/x"), ("runs", '"a\\0b"'), ("runs", "''"), ("runs", "s3://bucket/x")],
)
def test_a_folder_that_cannot_be_is_refused_by_its_key(spec, key, value):
    with pytest.raises(ConfigError, match=f"{key}: "):
        spec(f"{key}: {value}\n")


def test_links_in_a_circle_are_no_folder(spec, tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ConfigError, match=r"runs: .*circle/tiny cannot be written \(Too many levels"):
        prepare(spec("runs: circle\n"))
    with pytest.raises(ConfigError, match=r"store\.uri: .*circle"):
        prepare(spec("store: {uri: circle/store}\n"))


def test_a_store_at_the_home_of_nobody_is_refused(spec):
    with pytest.raises(ConfigError, match=r"store\.uri: given '~nobody-of-this-name/x'; there is no such user"):
        prepare(spec("store: {uri: ~nobody-of-this-name/x}\n"))


@pytest.mark.parametrize("name", ["..", ".", "artifacts/..", "x" * 300, "a\0b", "-x", ""])
def test_a_command_on_a_sweep_looks_into_no_other_folder(name, tmp_path):
    (tmp_path / "runs" / "s").mkdir(parents=True)
    (tmp_path / "runs" / "s" / "state.json").write_text("{}")
    with pytest.raises(AreamError, match=r"no sweep .* there are: s"):
        locate(name, str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match="--runs: given '~nobody"):
        locate("s", "~nobody-of-this-name/x")


@pytest.mark.parametrize("uri", ["runs/tiny", "runs", "runs/tiny/inside", "~/../runs/tiny"])
def test_a_store_in_the_folder_that_fresh_empties_is_refused(spec, uri, tmp_path):
    (tmp_path / "home").mkdir()
    with pytest.raises(ConfigError, match=r"store\.uri: .*overlap"):
        prepare(spec(f"store: {{uri: {uri}}}\n"))


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("runs", ""),
        ("store.uri", "runs: /tmp/runs\nstore: {uri: shelf}\n"),
        ("root", "runs: /tmp/runs\naxes: {data: [{name: voc2012, root: voc}]}\n"),
        ("search.storage", "runs: /tmp/runs\naxes: {method.alpha_low: {uniform: [0.2, 0.3]}}\n"
         "search: {trials: 2, storage: 'sqlite:///s.db'}\n"),
    ],
)  # fmt: skip
def test_a_working_folder_whose_name_is_no_text_is_refused(spec, key, more, tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=rf"{key}: .*: a name in it is not UTF-8"):
        spec(more)
    with pytest.raises(ConfigError, match=r"--runs: .*: a name in it is not UTF-8"):
        locate("tiny", "runs")


def test_a_sweep_file_whose_path_is_no_text_is_refused(spec, tmp_path):
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    path = shutil.copy(spec().path, folder / "s.yaml")
    with pytest.raises(ConfigError, match=r"s\.yaml: cannot be read: a name in it is not UTF-8"):
        load_spec(path)


@pytest.mark.parametrize("given", ["shelf", "./shelf", "~/../shelf"])
def test_a_store_is_where_the_command_runs_whichever_folder_its_workers_run_in(spec, given, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    found = spec(f"store: {{uri: {given}}}\n")
    by_file = locate(str(found.path), "runs")
    (tmp_path / "of a worker").mkdir()
    monkeypatch.chdir(tmp_path / "of a worker")  # Ray Tune gives every trial a folder of its own
    for uri in (found.store_uri, by_file.store_uri):
        assert os.path.realpath(open_store(uri, tmp_path / "default").storage.root) == str(tmp_path / "shelf")


@pytest.mark.parametrize("uri", ["file:shelf", "file:./shelf", "file:///a#b", "file:///a?b"])
def test_a_uri_that_names_no_folder_is_refused(spec, uri):
    with pytest.raises(ConfigError, match=r"store\.uri: given .*; need file:///folder"):
        prepare(spec(f"store: {{uri: '{uri}'}}\n"))


@pytest.mark.parametrize("name", ["a b%2F#?c'd", "x:y", "50%", "é", "a&b=c"])
def test_a_store_may_have_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(name, tmp_path / "default")
    store.storage.write("object", b"content")
    assert (tmp_path / name / "object").read_bytes() == b"content"
    assert open_store(store.storage.uri, tmp_path / "default").storage.read("object") == b"content"


def test_a_search_may_be_kept_at_home(spec, tmp_path):
    found = spec("axes: {method.alpha_low: {uniform: [0.2, 0.3]}}\nsearch: {trials: 2, storage: 'sqlite:///~/s.db'}\n")
    assert sqlite_file(found.search.storage) == tmp_path / "home" / "s.db"
