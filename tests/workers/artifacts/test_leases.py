"""One holder at a time, on every storage; dead holders are found without comparing clocks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.artifacts.collection import collect, tidy
from workers.artifacts.leases import LAST, MOST_BYTES, Holder, Leases
from workers.artifacts.storages.file import FolderStorage

NAME = "train_cam-0123456789abcdef"
ROOT = Path(__file__).resolve().parents[3]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wait_for(condition: Callable[[], bool], patience_s: float = 60.0) -> None:
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_one_holder_at_a_time(store):
    first, second = Leases(store.storage), Leases(store.storage)
    lease = first.take(NAME)
    assert lease is not None
    assert second.take(NAME) is None
    assert second.holder(NAME).owner == f"pid {os.getpid()} on {os.uname().nodename}"
    lease.release()
    assert second.holder(NAME) is None
    with second.take(NAME):
        assert first.take(NAME) is None
    assert not list(store.storage.list("leases/"))


@pytest.mark.slow
def test_of_many_that_want_it_one_gets_it(store):
    many = [Leases(store.storage) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        got = [lease for lease in pool.map(lambda leases: leases.take(NAME), many) if lease is not None]
    assert len(got) == 1
    got[0].release()


@pytest.mark.slow
def test_a_living_holder_keeps_it_for_ever(store):
    clock = Clock()
    leases, other = Leases(store.storage, ttl_s=0.6), Leases(store.storage, ttl_s=0.6, clock=clock)
    with leases.take(NAME):
        for _ in range(5):
            assert other.take(NAME) is None
            seen = other.holder(NAME)
            clock.now += 0.5
            wait_for(lambda seen=seen: other.holder(NAME) != seen)
            assert other.living(NAME) is not None


def elsewhere(storage, beat: int = 0) -> None:
    """A lease of a process on another machine."""
    storage.write(
        f"leases/{NAME}/00000000",
        b'{"owner": "pid 7 on far", "process": "0123456789ab-7-7", "beat": %d, "token": "t"}' % beat,
    )


def test_a_silent_holder_on_another_machine_is_dead_after_the_time_to_live(store):
    clock = Clock()
    leases = Leases(store.storage, ttl_s=60, clock=clock)
    elsewhere(store.storage)
    assert leases.take(NAME) is None
    clock.now = 59.0
    assert leases.take(NAME) is None
    elsewhere(store.storage, beat=1)
    clock.now = 61.0
    assert leases.take(NAME) is None  # it beat
    clock.now = 120.9
    assert leases.take(NAME) is None
    clock.now = 121.1
    lease = leases.take(NAME)
    assert lease is not None
    assert leases.holder(NAME).generation == 1
    lease.release()
    assert not list(store.storage.list("leases/"))


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_clock_jump_changes_nothing(store, monkeypatch, jump):
    """Wall clocks are not read at all: only the time that an observer itself watched counts."""
    leases, other = Leases(store.storage), Leases(store.storage)
    with leases.take(NAME):
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() + jump)
        assert other.take(NAME) is None


@pytest.mark.slow
def test_a_dead_process_of_this_machine_is_seen_at_once(store, store_uri, tmp_path):
    uri, endpoint = store_uri
    script = (
        "import sys; from pathlib import Path; from workers.artifacts.opening import open_store\n"
        "from workers.artifacts.leases import Leases\n"
        f"store = open_store({uri!r}, Path({str(tmp_path / 'a')!r}), {endpoint!r})\n"
        f"lease = Leases(store.storage).take({NAME!r}); print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    leases = Leases(store.storage)
    assert leases.take(NAME) is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    lease = leases.take(NAME)
    assert lease is not None
    lease.release()


@pytest.mark.slow
def test_a_holder_that_was_taken_over_does_not_come_back(store):
    thawed = threading.Event()
    frozen = Leases(store.storage, ttl_s=0.6).take(NAME, on_beat=thawed.wait)
    clock = Clock()
    other = Leases(store.storage, clock=clock)
    assert other.take(NAME) is None
    clock.now = 61.0
    taken = other.take(NAME)
    assert taken is not None
    thawed.set()
    assert frozen.lost.wait(60)
    assert other.holder(NAME).generation == 1
    frozen.release()
    assert other.holder(NAME).generation == 1
    taken.release()


def changed(**fields: object) -> bytes:
    return json.dumps({"owner": "pid 7 on far", "process": "", "beat": 0, "token": "t"} | fields).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"\xff{",
        b"",
        b"[" * 100_000,
        b'{"beat":' * 100_000,
        b"null",
        b"5",
        b"{}",
        changed(beat=float("inf")),
        changed().replace(b"0", b"1e999"),
        changed(beat=float("nan")),
        changed().replace(b"0", b"9" * 5000),
        changed(beat="x"),
        changed(beat=None),
        changed(owner="\ud800"),
        changed(owner="\x1b[2J"),
        changed(owner="x" * MOST_BYTES),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_damaged_lease_is_one_that_never_beats(store, content):
    store.storage.write(f"leases/{NAME}/00000000", content)
    clock = Clock()
    leases = Leases(store.storage, clock=clock)
    assert leases.holder(NAME) == Holder(0, "unknown", "", 0, "")
    assert leases.take(NAME) is None
    tidy(store)
    assert list(collect(store, 0.0, dry_run=False, now=lambda: 1e12)) == []
    clock.now = 61.0
    leases.clear(NAME)
    assert leases.holder(NAME) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=5,
)
LEASES = st.fixed_dictionaries({}, optional=dict.fromkeys(("owner", "process", "beat", "token"), VALUES))


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(content=st.binary() | (VALUES | LEASES).map(lambda value: json.dumps(value).encode()))
def test_whatever_a_lease_holds_it_can_be_taken_over(tmp_path_factory, content):
    storage = FolderStorage(tmp_path_factory.mktemp("store"))
    storage.write(f"leases/{NAME}/00000000", content)
    clock = Clock()
    leases = Leases(storage, clock=clock)
    leases.take(NAME)
    clock.now = 61.0
    lease = leases.take(NAME)
    assert lease is not None
    lease.release()
    assert leases.holder(NAME) is None


FOREIGN = ("garbage", "0", "-0000001", "000000000", "0000000\u0663", "00000007.tmp", "below/00000007")


@pytest.mark.slow
@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_named_otherwise_is_no_lease(store, foreign):
    name = f"leases/{NAME}/{foreign}"
    store.storage.write(name, b"{")
    store.storage.write("leases/stray", b"{")
    leases = Leases(store.storage)
    tidy(store)
    assert leases.holder(NAME) is None
    with leases.take(NAME):
        assert leases.take(NAME) is None
        assert leases.holder(NAME).generation == 0
    assert [info.name for info in store.storage.list("leases/")] == sorted([name, "leases/stray"])
    removed = {garbage.name for garbage in collect(store, 0.0, dry_run=False, now=lambda: 1e12)}
    assert {name, "leases/stray"} <= removed


def test_after_the_last_generation_comes_the_first(store):
    store.storage.write(f"leases/{NAME}/{LAST}", b"{")
    clock = Clock()
    leases = Leases(store.storage, clock=clock)
    assert leases.take(NAME) is None
    clock.now = 61.0
    with leases.take(NAME):
        assert leases.holder(NAME).generation == 0
        assert leases.take(NAME) is None
    assert not list(store.storage.list("leases/"))
