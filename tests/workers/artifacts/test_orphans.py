"""What writers of earlier boots and other machines left behind goes by its age, unless one of them is known to live."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from elsewhere import begun, killed

from workers.artifacts.collection import collect, tidy
from workers.processes.temporary import STRANGER_S

WRITER = """
folder = store.staging()
(folder / "below").mkdir()
(folder / "below" / "cams-00000.safetensors").write_bytes(b"0" * 5000)
"""
HOLDER = """
lease = Leases(store.storage).take("train_cam-0123456789abcdef")
print("writes", flush=True)
sys.stdin.read()
"""


def left(store) -> list[Path]:
    return list((store.scratch / "staging").glob("*"))


def age(store, seconds: float) -> None:
    then = time.time() - seconds
    for path in [*(store.scratch / "staging").rglob("*")]:
        os.utime(path, (then, then))


CLEANERS = {"tidy": tidy, "gc": lambda store: list(collect(store, 0.0, dry_run=False))}


@pytest.mark.slow
@pytest.mark.parametrize("cleaner", CLEANERS)
def test_it_goes_when_it_is_old(store, store_uri, tmp_path, cleaner):
    clean = CLEANERS[cleaner]
    killed("a" * 12, store_uri, tmp_path / "here" / "artifacts", WRITER)
    assert len(left(store)) == 1
    clean(store)
    assert len(left(store)) == 1  # its writer may run on a machine that shares the folder
    age(store, STRANGER_S + 60)
    clean(store)
    assert left(store) == []


def test_a_file_deep_inside_that_is_young_keeps_it(store, store_uri, tmp_path):
    killed("a" * 12, store_uri, tmp_path / "here" / "artifacts", WRITER)
    age(store, STRANGER_S + 60)
    next(path for path in left(store)[0].rglob("*") if path.is_file()).touch()
    tidy(store)
    assert len(left(store)) == 1


def test_that_of_a_dead_process_of_this_machine_goes_at_once(store, store_uri, tmp_path):
    from workers.processes.identity import machine_id

    killed(machine_id(), store_uri, tmp_path / "here" / "artifacts", WRITER)
    tidy(store)
    assert left(store) == []


@pytest.mark.slow
def test_that_of_a_writer_elsewhere_that_holds_a_lease_stays(store, store_uri, tmp_path):
    with begun("a" * 12, store_uri, tmp_path / "here" / "artifacts", WRITER + HOLDER) as writer:
        assert writer.stdout.readline() == "writes\n"
        age(store, 30 * STRANGER_S)
        for clean in CLEANERS.values():
            clean(store)
        assert len(left(store)) == 1
        writer.kill()
    for info in list(store.storage.list("leases/")):
        store.storage.delete(info.name)
    tidy(store)
    assert left(store) == []
