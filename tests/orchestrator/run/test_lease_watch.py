"""Stages that another process computes are watched without a slot."""

from __future__ import annotations

import pytest
from artifact_stores import record

from orchestrator.run.lease_watch import LOOK_S, LeaseWatch
from workers.artifacts.leases import Leases
from workers.artifacts.opening import open_store

KEY = "warmup-0123456789abcdef"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path):
    return open_store(None, tmp_path / "artifacts")


def test_free_when_stored_or_nobody_computes_it(store):
    clock = Clock()
    watch = LeaseWatch(store, clock=clock)
    lease = Leases(store.storage).take(KEY)
    assert not watch.free(KEY)
    lease.release()
    assert not watch.free(KEY)  # asked too soon after the last time
    clock.now += LOOK_S
    assert watch.free(KEY)
    store.put(KEY, store.staging(), record(KEY))
    with Leases(store.storage).take(KEY):
        assert watch.free(KEY)


def test_the_lease_of_a_silent_machine_is_removed_for_the_workers(store):
    clock = Clock()
    watch = LeaseWatch(store, Leases(store.storage, ttl_s=60, clock=clock), clock)
    content = b'{"owner": "pid 7 on far", "process": "0123456789ab-7-7", "beat": 0, "token": "t"}'
    store.storage.write(f"leases/{KEY}/00000000", content)
    assert not watch.free(KEY)
    assert watch.holder(KEY) == "pid 7 on far"
    clock.now += 59
    assert not watch.free(KEY)
    clock.now += 2
    assert watch.free(KEY)
    worker = Leases(store.storage).take(KEY)
    assert worker is not None
    worker.release()
