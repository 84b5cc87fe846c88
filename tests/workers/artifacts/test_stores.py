"""What every store must do; a new one is added to STORES and nothing else."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aream.errors import ArtifactCorrupt, ArtifactNotFound, ConfigError, DataError
from workers.artifacts.local import LocalStore
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import open_store

KEY = "train_cam-0123456789abcdef"
ROOT = Path(__file__).resolve().parents[3]

STORES = {"local": LocalStore}


def record(key: str = KEY, **changes) -> ArtifactRecord:
    base = ArtifactRecord(
        key=key, stage=key.split("-")[0], version=1, config={"lr": 0.1}, fingerprints={"data": "ab"}, inputs={},
        metrics={"val/map": 0.5}, history=[{"epoch": 1.0}], seconds=1.5, created="2026-01-01T00:00:00+00:00",
        code="abc", host="here", versions={"torch": "2"},
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return STORES[request.param](tmp_path / "store")


def fill(folder: Path, text: str = "hello") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir()
    (folder / "labels" / "a.png").write_bytes(text.encode())
    (folder / "curve.json").write_text("{}")
    return folder


def test_put_get_and_list(store):
    assert not store.has(KEY)
    written = store.put(KEY, fill(store.staging()), record())
    assert store.has(KEY)
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "hello"
    assert {entry.path for entry in written.files} == {"labels/a.png", "curve.json"}
    assert store.record(KEY) == written
    assert list(store.keys()) == [KEY]


def test_a_folder_from_elsewhere_is_copied(store, tmp_path):
    source = fill(tmp_path / "elsewhere")
    store.put(KEY, source, record())
    assert (source / "curve.json").exists()
    assert store.get(KEY) != source


def test_a_second_writer_changes_nothing(store):
    first = store.put(KEY, fill(store.staging(), "first"), record())
    second = store.put(KEY, fill(store.staging(), "second"), record(seconds=9.0))
    assert second == first
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "first"


def test_what_is_not_there(store):
    for ask in (store.record, store.get):
        with pytest.raises(ArtifactNotFound, match=KEY):
            ask(KEY)
    store.discard(KEY)


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b"hellp"), lambda p: p.write_bytes(b""), Path.unlink])
def test_damage_is_seen_on_reading_and_can_be_computed_again(store, tmp_path, damage):
    store.put(KEY, fill(store.staging()), record())
    damage(store.get(KEY) / "labels" / "a.png")
    with pytest.raises(ArtifactCorrupt, match=r"a\.png"):
        type(store)(tmp_path / "store").get(KEY)
    store.discard(KEY)
    assert not store.has(KEY)
    store.put(KEY, fill(store.staging()), record())
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "hello"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "x"}', record().to_json().replace('"seconds"', '"second"')])
def test_an_unreadable_record_is_corrupt(store, tmp_path, text):
    store.put(KEY, fill(store.staging()), record())
    (tmp_path / "store" / "records" / f"{KEY}.json").write_text(text)
    with pytest.raises(ArtifactCorrupt, match=KEY):
        store.record(KEY)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b", ""])
def test_a_record_that_points_outside_is_refused(store, tmp_path, path):
    written = store.put(KEY, fill(store.staging()), record())
    hostile = written.to_json().replace("labels/a.png", path)
    (tmp_path / "store" / "records" / f"{KEY}.json").write_text(hostile)
    with pytest.raises(ArtifactCorrupt):
        store.get(KEY)


@pytest.mark.parametrize(
    "key", ["", "../x-0123456789ab", "a/b-0123456789ab", "x-xyz", "x-0123456789ab\0", "X-0123456789ab"]
)
def test_hostile_keys_are_refused(store, key):
    for ask in (store.has, store.record, store.get, store.discard):
        with pytest.raises(ConfigError, match="artifact key"):
            ask(key)


def test_links_are_refused(store, tmp_path):
    source = fill(store.staging())
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="plain files"):
        store.put(KEY, source, record())
    assert not store.has(KEY)


def test_files_without_a_record_are_absent_and_replaced(store, tmp_path):
    fill(tmp_path / "store" / "objects" / KEY, "of a killed writer")
    assert not store.has(KEY)
    store.put(KEY, fill(store.staging(), "whole"), record())
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "whole"


def test_a_writer_killed_before_its_record_leaves_nothing_readable(tmp_path):
    """A real process, killed while it is blocked between its files and its record: the records folder is a FIFO."""
    root = tmp_path / "store"
    store = LocalStore(root)
    fill(tmp_path / "source")
    (tmp_path / "record.json").write_text(record().to_json())
    script = (
        "import os, sys; from pathlib import Path; from workers.artifacts import local\n"
        "from workers.artifacts.record import ArtifactRecord\n"
        f"tmp = Path({str(tmp_path)!r})\n"
        "class Blocking(local.LocalStore):\n"
        "    def _write_record(self, record):\n"
        "        print('published', flush=True); sys.stdin.read()\n"
        "record = ArtifactRecord.from_json((tmp / 'record.json').read_text(), '')\n"
        "Blocking(tmp / 'store').put(record.key, tmp / 'source', record)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "published\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (root / "objects" / KEY).exists()
    assert not store.has(KEY)
    with pytest.raises(ArtifactNotFound):
        store.get(KEY)
    store.put(KEY, fill(store.staging(), "second try"), record())
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "second try"


def _publish(root: Path, number: int) -> None:
    store = LocalStore(root)
    store.put(KEY, fill(store.staging(), f"writer {number}"), record())


def test_writers_of_one_key_at_once_leave_one_whole_artifact(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_publish, args=(tmp_path / "store", number)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 6
    folder = LocalStore(tmp_path / "store").get(KEY)
    assert (folder / "labels" / "a.png").read_text().startswith("writer ")


def test_open_store(tmp_path):
    assert open_store(None, tmp_path).root == tmp_path
    assert open_store(f"file://{tmp_path}/a%20b", tmp_path).root == tmp_path / "a b"
    with pytest.raises(ConfigError, match=r"store\.uri: given 'ftp://x'"):
        open_store("ftp://x", tmp_path)
