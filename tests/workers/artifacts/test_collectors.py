"""Collectors say that they work until they end, however they end."""

from __future__ import annotations

import time

import pytest
from artifact_stores import KEY, fill, record
from elsewhere import killed

from workers.artifacts import collectors
from workers.artifacts.collection import collect, tidy
from workers.artifacts.collectors import COLLECTORS, Collector
from workers.artifacts.holds import Hold
from workers.processes.identity import machine_id

CLEANERS = {"tidy": tidy, "gc": lambda store: list(collect(store, 0.0, dry_run=False))}
COLLECTS = """
from workers.artifacts.collectors import Collector

Collector(store.storage).__enter__()
"""


def said(store) -> list[str]:
    return [info.name for info in store.storage.list(COLLECTORS)]


@pytest.mark.slow
@pytest.mark.parametrize("cleaner", CLEANERS)
def test_of_one_that_was_killed_nothing_stays(store, store_uri, tmp_path, cleaner):
    killed(machine_id(), store_uri, tmp_path / "here" / "artifacts", COLLECTS)
    with Collector(store.storage) as working:
        assert len(said(store)) == 2
        CLEANERS[cleaner](store)
        assert said(store) == [working.name]
    assert said(store) == []


@pytest.mark.slow
def test_one_of_another_machine_may_work_until_it_was_silent_for_long(store, store_uri, tmp_path, monkeypatch):
    killed("a" * 12, store_uri, tmp_path / "here" / "artifacts", COLLECTS)
    tidy(store)
    list(collect(store, 0.0, dry_run=False, now=lambda: 1e12))
    assert len(said(store)) == 1
    monkeypatch.setattr(collectors, "SILENT_S", -60.0)
    list(collect(store, 0.0, dry_run=False, now=lambda: 1e12))
    assert said(store) == []


def test_it_says_so_again_while_it_works(store, monkeypatch):
    monkeypatch.setattr(collectors, "BEAT_S", 0.05)
    with Collector(store.storage) as working:
        store.storage.delete(working.name)  # as one that took it for dead does
        until = time.monotonic() + 60
        while not said(store):
            assert time.monotonic() < until
            time.sleep(0.02)
    assert said(store) == []


@pytest.mark.slow
def test_what_is_named_while_one_works_is_made_young(store, store_uri, tmp_path):
    """Also where the collector is of another machine."""
    store.put(KEY, fill(store.staging()), record())
    before = store.storage.stat(f"records/{KEY}.json").modified
    time.sleep(1.1)  # S3 tells when an object was written to the second
    killed("a" * 12, store_uri, tmp_path / "here" / "artifacts", COLLECTS)
    with Hold(store.storage, "5eed", "sweep", [KEY]):
        assert store.storage.stat(f"records/{KEY}.json").modified > before
