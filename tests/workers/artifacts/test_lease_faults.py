"""An error in one beat ends no heartbeat, and whoever loses a race for a lease is told so."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from artifact_stores import reopened
from test_leases import NAME, Clock, wait_for

from aream.errors import StoreUnavailable
from workers.artifacts.leases import Leases
from workers.artifacts.storages.file import FolderStorage

TTL_S = 0.6


def beats_on(storage, lease) -> None:
    """Also before an observer that gives it just less than its time to live, again and again."""
    clock = Clock()
    observer = Leases(storage, ttl_s=TTL_S, clock=clock)
    for _ in range(3):
        assert observer.take(NAME) is None
        seen = observer.holder(NAME)
        clock.now += 0.9 * TTL_S
        wait_for(lambda seen=seen: observer.holder(NAME).beat > seen.beat)
    assert lease.thread.is_alive()
    assert not lease.lost.is_set()
    lease.release()
    assert observer.holder(NAME) is None


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", ["scandir", "fsync", "replace"])
def test_an_error_of_the_file_system_in_a_beat(tmp_path, monkeypatch, call, number):
    storage = FolderStorage(tmp_path / "store")
    lease, met, real = Leases(storage, ttl_s=TTL_S).take(NAME), threading.Event(), getattr(os, call)

    def once(*arguments, **named):
        if threading.current_thread() is lease.thread and not met.is_set():
            met.set()
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, once)
    assert met.wait(60)
    beats_on(storage, lease)


@pytest.mark.slow
@pytest.mark.parametrize("error", [StoreUnavailable("away"), OSError(errno.EIO, "EIO"), ValueError("any")])
def test_an_error_of_what_is_done_at_a_beat(store, error):
    met = threading.Event()

    def once() -> None:
        if not met.is_set():
            met.set()
            raise error

    lease = Leases(store.storage, ttl_s=TTL_S).take(NAME, once)
    assert met.wait(60)
    beats_on(store.storage, lease)


@pytest.mark.slow
def test_who_loses_to_a_lease_that_is_gone_at_once_has_lost(store, store_uri, tmp_path, monkeypatch):
    """Its put was refused; the rival then removes what it would look at."""
    lease = Leases(store.storage).take(NAME)
    late = Leases(reopened(store_uri, tmp_path, "there").storage)
    read = late.storage.read

    def read_after_the_release(*arguments, **named):
        lease.release()
        return read(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(late, "holder", lambda name: None)  # it looked before the rival came
        patched.setattr(late.storage, "read", read_after_the_release)
        assert late.take(NAME) is None
    lease.release()
    with late.take(NAME):
        assert late.take(NAME) is None
