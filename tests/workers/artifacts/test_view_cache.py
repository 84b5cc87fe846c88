"""The views of a store elsewhere are a cache of bounded size on a node."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from artifact_stores import record, reopened
from elsewhere import begun

from aream.errors import ConfigError
from workers.artifacts.opening import VIEW_BYTES
from workers.artifacts.views import LOCKS
from workers.processes.file_lock import FileLock
from workers.processes.identity import machine_id

KEYS = [f"infer_cam-{number:016x}" for number in range(6)]
SIZE, ROOM_FOR = 200_000, 3
READER = """
for key in sys.argv[1:]:
    print(store.get(key), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cached(bucket, s3_endpoint, tmp_path, monkeypatch):
    """Six artifacts on a server, and a node with room for three."""
    uri = (f"s3://{bucket}/some", s3_endpoint)
    elsewhere = reopened(uri, tmp_path, "there")
    for number, key in enumerate(KEYS):
        source = elsewhere.staging()
        (source / "cams").write_bytes(random.Random(number).randbytes(SIZE))
        elsewhere.put(key, source, record(key))
    monkeypatch.setenv(VIEW_BYTES, str(ROOM_FOR * (SIZE + 10_000)))
    return uri


def views(store) -> set[str]:
    return {path.name.partition(".")[0] for path in (store.scratch / "views").glob("*")}


def read_in_turn(uri, tmp_path, keys) -> None:
    """Each by a process of its own, which ends."""
    for key in keys:
        with begun(machine_id(), uri, tmp_path / "here" / "artifacts", READER, key) as reader:
            assert reader.stdout.readline()
            reader.communicate()


@pytest.mark.slow
def test_what_was_used_least_lately_goes_first(cached, tmp_path):
    read_in_turn(cached, tmp_path, [KEYS[0], KEYS[1], KEYS[2], KEYS[0], KEYS[3]])
    store = reopened(cached, tmp_path)
    assert views(store) == {KEYS[0], KEYS[2], KEYS[3]}
    held = sum(path.stat().st_size for path in (store.scratch / "views").rglob("*") if path.is_file())
    assert held <= ROOM_FOR * (SIZE + 10_000)
    assert (store.get(KEYS[1]) / "cams").read_bytes() == random.Random(1).randbytes(SIZE)


@pytest.mark.slow
def test_what_a_process_uses_stays(cached, tmp_path):
    with begun(machine_id(), cached, tmp_path / "here" / "artifacts", READER, KEYS[0]) as reader:
        path = reader.stdout.readline().strip()
        read_in_turn(cached, tmp_path, KEYS[1:])
        store = reopened(cached, tmp_path)
        assert views(store) >= {KEYS[0], KEYS[5]}
        assert len(views(store)) == ROOM_FOR
        with open(f"{path}/cams", "rb") as file:
            assert file.read() == random.Random(0).randbytes(SIZE)
        reader.communicate()


def test_what_is_evicted_while_it_is_waited_for_is_kept_once_it_is_there_again(cached, tmp_path):
    reader, evictor = reopened(cached, tmp_path), reopened(cached, tmp_path)
    view = reader.get(KEYS[0])
    reader.views.locks.pop(view.name).release()  # as a process that has not used it yet
    lock = FileLock(evictor.scratch / LOCKS / view.name)
    assert lock.try_exclusive()
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(reader.get, KEYS[0])
        while view.name not in reader.views.locks:
            time.sleep(0.01)
        evictor.views.remove(view)
        lock.path.unlink()
        lock.release()
        assert waiting.result(60) == view
    assert not evictor.views._evict(view)
    assert (view / "cams").read_bytes() == random.Random(0).randbytes(SIZE)


@pytest.mark.parametrize("given", ["0", "-1", "1e9", "much"])
def test_an_impossible_bound(tmp_path, monkeypatch, given):
    monkeypatch.setenv(VIEW_BYTES, given)
    with pytest.raises(ConfigError, match=VIEW_BYTES):
        reopened(("s3://bucket/some", None), tmp_path)
