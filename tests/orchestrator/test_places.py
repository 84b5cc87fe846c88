"""Names and folders that a person may give: each means one place, whatever its signs, or is refused by its key."""

from __future__ import annotations

import pytest

from aream.errors import ConfigError
from orchestrator.preflight import prepare
from orchestrator.spec_reader import load_spec
from orchestrator.tracking_uri import sqlite_file
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
    assert prepared.workplace.folder == tmp_path / "home" / "aream runs" / "tiny"
    assert prepared.workplace.folder.is_dir()
    assert not (tmp_path / "~").exists()
    assert sqlite_file(prepared.tracking_uri) == tmp_path / "home" / "aream runs" / "mlflow.db"


@pytest.mark.parametrize(("key", "value"), [("runs", "~nobody-of-this-name/x"), ("runs", '"a\\0b"'), ("runs", "''")])
def test_a_folder_that_cannot_be_is_refused_by_its_key(spec, key, value):
    with pytest.raises(ConfigError, match=f"{key}: "):
        spec(f"{key}: {value}\n")


@pytest.mark.parametrize("uri", ["runs/tiny", "runs", "runs/tiny/inside", "~/../runs/tiny"])
def test_a_store_in_the_folder_that_fresh_empties_is_refused(spec, uri, tmp_path):
    (tmp_path / "home").mkdir()
    with pytest.raises(ConfigError, match=r"store\.uri: .*lie in each other"):
        prepare(spec(f"store: {{uri: {uri}}}\n"))


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
