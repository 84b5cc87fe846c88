"""A sweep's hold is that of the driver that runs, wherever an earlier one died, and of no other version of it."""

from __future__ import annotations

import os
import time

import pytest
from artifact_stores import fill, record, reopened
from elsewhere import killed
from test_leases import wait_for

from workers.artifacts.collection import collect
from workers.artifacts.holds import Hold, all_holds, read_hold
from workers.artifacts.leases import SILENT_S, Leases
from workers.processes.identity import machine_id

OLD, KEPT, NEW, OTHERS = (f"train_cam-{number * 16}" for number in "0123")
DRIVER = """
hold = Hold(store.storage, "5eed", "sweep")
hold.__enter__()
hold.add(sys.argv[1:])
hold.save()
"""
NODE_B, NODE_C = "b" * 12, "c" * 12


def live(store) -> list[bool]:
    return [hold.live for hold in all_holds(store.storage)]


@pytest.mark.slow
@pytest.mark.parametrize("killed_on", ["this machine", "its boot before"])
def test_a_driver_started_elsewhere_after_a_kill_has_the_hold(store, store_uri, tmp_path, machine, killed_on):
    node_a = machine_id()
    killed(
        node_a if killed_on == "this machine" else "a" * 12, store_uri, tmp_path / "here" / "artifacts", DRIVER, KEPT
    )
    machine(NODE_B)
    store.put(OLD, fill(store.staging()), record(OLD))  # another sweep's, which has not named it yet
    hours = time.time() + 2 * 3600
    with Hold(store.storage, "5eed", "sweep") as hold:
        assert hold.lease is not None
        for looking_from in (node_a, NODE_C):
            machine(looking_from)
            assert live(store) == [True]
            # A writer of a sweep that runs may need more than the grace period between a blob and its record.
            assert not list(collect(store, 3600, dry_run=True, now=lambda: hours))
        machine(NODE_B)
    for looking_from in (node_a, NODE_B, NODE_C):
        machine(looking_from)
        assert live(store) == [False]
    assert not list(store.storage.list("leases/"))
    assert read_hold(store.storage, "5eed").keys == (KEPT,)
    removed = {garbage.name for garbage in collect(store, 3600, dry_run=False, now=lambda: hours)}
    assert f"records/{OLD}.json" in removed


def test_a_driver_that_died_elsewhere_is_not_taken_for_alive_for_ever(tmp_path):
    uri = ((tmp_path / "store").as_uri(), None)
    store = reopened(uri, tmp_path)
    killed("a" * 12, uri, tmp_path / "here" / "artifacts", DRIVER, KEPT)
    assert live(store) == [True]
    for path in (tmp_path / "store" / "leases").rglob("0*"):
        os.utime(path, (time.time() - SILENT_S - 60,) * 2)
    assert live(store) == [False]
    assert read_hold(store.storage, "5eed").keys == (KEPT,)


def test_keys_of_earlier_versions_are_held_until_the_new_one_has_named_all_it_needs(store):
    with Hold(store.storage, "5eed", "sweep") as hold:
        hold.add([OLD, KEPT])
    with Hold(store.storage, "5eed", "sweep") as hold:
        hold.add([KEPT])
        hold.save()
        assert read_hold(store.storage, "5eed").keys == (OLD, KEPT)
    # That run ended before it had named all; the next one names all.
    with Hold(store.storage, "5eed", "sweep") as hold:
        hold.add([KEPT, NEW])
        hold.save()
        assert read_hold(store.storage, "5eed").keys == (OLD, KEPT, NEW)
        hold.complete()
        assert read_hold(store.storage, "5eed").keys == (KEPT, NEW)
    assert read_hold(store.storage, "5eed").keys == (KEPT, NEW)


@pytest.mark.slow
def test_a_driver_that_was_replaced_drops_nothing_that_its_successor_named(store, store_uri, tmp_path):
    first = Hold(store.storage, "5eed", "sweep")
    first.leases = Leases(store.storage, ttl_s=0.6)
    first.__enter__()
    first.add([OLD, KEPT])
    first.save()
    with Hold(reopened(store_uri, tmp_path).storage, "5eed", "sweep") as second:
        second.add([NEW])
        second.complete()
        wait_for(first.lease.lost.is_set)
        first.add([OTHERS])
        first.complete()
        first.__exit__(None, None, None)
        assert {NEW, OTHERS} <= set(read_hold(store.storage, "5eed").keys)
        assert live(store) == [True]
