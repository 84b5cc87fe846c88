"""A collection during which something cannot be read, or begins to be needed, removes nothing that anybody needs."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path

import pytest
from artifact_stores import fill, record, reopened
from test_collection import LATER, hold, removed

from aream.errors import ArtifactCorrupt, StoreUnavailable
from workers.artifacts.blobs import blob_name
from workers.artifacts.collection import collect
from workers.artifacts.collectors import COLLECTORS
from workers.artifacts.holds import Hold, release
from workers.artifacts.leases import Leases
from workers.artifacts.opening import open_store

HELD, ORPHAN, NEW = (f"train_cam-{number * 16}" for number in "012")
COARSE_S = 1.1
"""S3 tells when an object was written to the second."""


@pytest.fixture
def kept(store):
    """One artifact that a finished sweep names, one that none names."""
    for key in (HELD, ORPHAN):
        store.put(key, fill(store.staging(), key), record(key))
    hold(store, HELD)
    return store


def objects(store) -> dict[str, bytes]:
    """What the storage holds, less what readers of a folder keep beside it and the collectors' own objects."""
    aside = ("views/", "indexes/", "staging/", "conditional-put", COLLECTORS)
    names = [info.name for info in store.storage.list("") if not info.name.startswith(aside)]
    return {name: store.storage.read(name) for name in names}


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


# What cannot be listed or read

FOLDERS = ("sweeps", "records", "blobs", "leases", "checkpoints", "claims", "probe")
READ = ("sweeps", "records", "blobs", "leases")
FAULTS = [(os, call, folder) for call in ("scandir", "stat") for folder in FOLDERS]
FAULTS += [(io, "open", folder) for folder in READ]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize(("module", "call", "folder"), FAULTS, ids=[f"{call} {folder}" for _, call, folder in FAULTS])
@pytest.mark.parametrize("dry_run", [False, True], ids=["for good", "dry run"])
def test_one_error_ends_it_and_nothing_is_removed(tmp_path, monkeypatch, module, call, folder, number, dry_run):
    root = tmp_path / "store"
    store = reopened((root.as_uri(), None), tmp_path)
    for key in (HELD, ORPHAN):
        store.put(key, fill(store.staging(), key), record(key))
    hold(store, HELD)
    for name in (f"checkpoints/{ORPHAN}.pt", f"claims/{ORPHAN}/0", "probe/0", f"leases/{ORPHAN}/00000000"):
        store.storage.write(name, b"{")
    before, real, met = objects(store), getattr(module, call), []

    def once(path=".", *arguments, **named):
        inside = str(path).startswith(f"{root / folder}") and COLLECTORS not in str(path)
        if inside and not met:
            met.append(path)
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, call, once)
        with pytest.raises(StoreUnavailable, match=os.strerror(number)):
            removed(store, dry_run=dry_run)
    assert met
    assert objects(store) == before
    store.verify(HELD)


# What is damaged


def damage(store, key: str, how: str) -> None:
    names = {"list": blob_name(store.record(key).index), "record": f"records/{key}.json"}
    part, change = how.split()
    content = store.storage.read(names[part])
    if change == "gone":
        store.storage.delete(names[part])
    else:
        store.storage.write(names[part], content[:-5] + b"xxxx\n")


HOW = ["list changed", "list gone", "record changed"]


@pytest.mark.parametrize("how", HOW)
def test_a_dry_run_changes_nothing_whatever_it_meets(tmp_path, how):
    root = tmp_path / "store"
    store = reopened((root.as_uri(), None), tmp_path)
    for key in (HELD, ORPHAN):
        store.put(key, fill(store.staging(), key), record(key))
    hold(store, HELD)
    damage(store, HELD, how)
    before = files(root)
    with pytest.raises(ArtifactCorrupt, match="verify --discard"):
        removed(open_store(str(root), tmp_path), dry_run=True)
    assert files(root) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_what_a_needed_artifact_has_must_be_known_before_anything_goes(kept, store_uri, tmp_path, how):
    damage(kept, HELD, how)
    before = objects(kept)
    store = reopened(store_uri, tmp_path, "there")
    for dry_run in (True, False):
        with pytest.raises(ArtifactCorrupt, match="verify --discard"):
            removed(store, dry_run=dry_run)
        assert objects(kept) == before
    with pytest.raises(ArtifactCorrupt):
        store.verify(HELD)
    store.discard_damaged(HELD)  # what it says helps
    assert f"records/{ORPHAN}.json" in removed(store)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_what_nobody_needs_goes_damaged_or_not(kept, how):
    damage(kept, ORPHAN, how)
    assert f"records/{ORPHAN}.json" in removed(kept)
    kept.verify(HELD)
    assert set(kept.keys()) == {HELD}


# What begins to be needed after it was listed


@pytest.mark.slow
@pytest.mark.parametrize("touched", [lambda storage: storage.touch("x"), lambda storage: storage.write("x", b"1")])
def test_what_changed_since_it_was_listed_is_not_deleted(store, touched):
    store.storage.write("x", b"1")
    (info,) = store.storage.list("x")
    time.sleep(COARSE_S)
    touched(store.storage)
    assert not store.storage.delete_unchanged(info)
    assert store.storage.read("x") == b"1"
    (info,) = store.storage.list("x")
    assert store.storage.delete_unchanged(info)
    assert not list(store.storage.list("x"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["it is listed", "it goes"])
def test_a_blob_that_a_writer_has_just_found_stays(store, store_uri, tmp_path, monkeypatch, moment):
    """Another sweep's artifact has the same content."""
    store.put(ORPHAN, fill(store.staging()), record(ORPHAN))
    store.discard(ORPHAN)
    time.sleep(COARSE_S)
    writer, published = reopened(store_uri, tmp_path, "there"), []

    def publish() -> None:
        if not published:
            published.append(NEW)
            with Hold(writer.storage, "0th3r", "other") as held:
                held.add([NEW])
                held.save()
                writer.put(NEW, fill(writer.staging()), record(NEW))

    listed, delete = store.storage.list, store.storage.delete_unchanged

    def listing(prefix):
        found = list(listed(prefix))
        if prefix == "blobs/":
            publish()
        return found

    def deleting(info):
        if info.name.startswith("blobs/"):
            publish()
        return delete(info)

    if moment == "it is listed":
        monkeypatch.setattr(store.storage, "list", listing)
    else:
        monkeypatch.setattr(store.storage, "delete_unchanged", deleting)
    removed(store)
    assert published
    reopened(store_uri, tmp_path, "elsewhere").verify(NEW)


@pytest.mark.slow
def test_a_record_that_a_sweep_has_just_named_stays(kept, store_uri, tmp_path, monkeypatch):
    time.sleep(COARSE_S)
    delete, other = kept.storage.delete_unchanged, reopened(store_uri, tmp_path, "there")
    sweep = Hold(other.storage, "0th3r", "other")

    def deleting(info):
        if info.name == f"records/{ORPHAN}.json":  # the last look at the lists was before
            with sweep:
                sweep.add([ORPHAN])
                sweep.save()
        return delete(info)

    monkeypatch.setattr(kept.storage, "delete_unchanged", deleting)
    assert f"records/{ORPHAN}.json" not in removed(kept)
    reopened(store_uri, tmp_path, "elsewhere").verify(ORPHAN)
    monkeypatch.undo()
    release(kept.storage, "0th3r")
    assert f"records/{ORPHAN}.json" in removed(kept)


@pytest.mark.slow
def test_what_a_collection_removed_so_far_was_needed_by_nobody_when_it_ends_early(kept, monkeypatch):
    """An error half way: what stays is whole."""
    for number in range(3):
        kept.put(f"infer_cam-{number:016x}", fill(kept.staging(), str(number)), record(f"infer_cam-{number:016x}"))
    delete, count = kept.storage.delete_unchanged, []

    def deleting(info):
        count.append(info)
        if len(count) == 4:
            raise StoreUnavailable("away")
        return delete(info)

    with monkeypatch.context() as patched:
        patched.setattr(kept.storage, "delete_unchanged", deleting)
        with pytest.raises(StoreUnavailable):
            list(collect(kept, 0.0, dry_run=False, now=lambda: LATER))
    for key in kept.keys():
        kept.verify(key)
    removed(kept)
    assert set(kept.keys()) == {HELD}


def test_leases_leave_no_folders(tmp_path):
    store = reopened(((tmp_path / "store").as_uri(), None), tmp_path)
    leases = Leases(store.storage)
    for number in range(20):
        lease = leases.take(f"train_cam-{number:016x}")
        lease.released.set()  # its thread has nothing to wait for
        lease.release()
    with Hold(store.storage, "5eed", "sweep"):
        pass
    removed(store)
    assert not list((tmp_path / "store" / "leases").iterdir())
