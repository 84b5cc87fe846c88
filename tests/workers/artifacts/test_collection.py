"""Collecting what nobody needs, never what a sweep names; lineage; export."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artifact_stores import contents, fill, record
from PIL import Image

from aream.errors import ArtifactCorrupt, ConfigError
from workers.artifacts.collection import LIVE_GRACE_S, collect, tidy
from workers.artifacts.holds import Hold, all_holds, release
from workers.artifacts.lineage import ancestors, descendants
from workers.artifacts.opening import was_used
from workers.artifacts.storages.protocol import PROBES
from workers.artifacts.views import Views
from workers.files.voc_export import export_labels
from workers.processes.temporary import new_name

ROOT = Path(__file__).resolve().parents[3]
WARMUP, TRAIN, CAMS, LABELS, ORPHAN = (
    f"{stage}-0123456789abcdef" for stage in ("warmup", "train_cam", "infer_cam", "pseudo_label", "train_seg")
)
INPUTS = {WARMUP: {}, TRAIN: {"warmup": WARMUP}, CAMS: {"host": TRAIN}, LABELS: {"cams": CAMS}, ORPHAN: {}}
LATER = 1e12


@pytest.fixture
def chain(store):
    for key, inputs in INPUTS.items():
        store.put(key, fill(store.staging(), key), record(key, inputs=inputs))
    return store


def names(store) -> set[str]:
    """Of the store's objects, less what readers of a folder keep beside them and what tells a server's kind."""
    kept = ("views/", "indexes/", "staging/", "conditional-put")
    return {info.name for info in store.storage.list("") if not info.name.startswith(kept)}


def test_a_place_is_a_store_once_something_was_stored(store):
    assert not was_used(store.storage)
    store.put(ORPHAN, fill(store.staging(), ORPHAN), record(ORPHAN))
    assert was_used(store.storage)


def removed(store, grace_s: float = 0.0, dry_run: bool = False) -> set[str]:
    return {garbage.name for garbage in collect(store, grace_s, dry_run=dry_run, now=lambda: LATER)}


def hold(store, *keys: str) -> None:
    with Hold(store.storage, "5eed", "sweep") as held:
        held.add(keys)


@pytest.mark.slow
def test_what_a_sweep_names_and_its_ancestors_stay(chain):
    hold(chain, LABELS)
    before = names(chain)
    planned = removed(chain, dry_run=True)
    assert names(chain) == before
    assert f"records/{ORPHAN}.json" in planned
    assert removed(chain) == planned
    assert set(chain.keys()) == {WARMUP, TRAIN, CAMS, LABELS}
    for key in chain.keys():
        chain.verify(key)
        chain.get(key)
    assert removed(chain) == set()


def test_views_are_listed_as_often_for_many_artifacts_as_for_one(chain, monkeypatch):
    listed, views = [], Views.by_key
    monkeypatch.setattr(Views, "by_key", lambda self: (listed.append(1), views(self))[1])
    assert {f"records/{key}.json" for key in INPUTS} <= removed(chain)
    assert len(listed) == 1
    assert not any((chain.scratch / "views").iterdir())


def test_nothing_younger_than_the_grace_period_goes(chain):
    assert removed(chain, grace_s=2 * LATER) == set()


@pytest.mark.slow
def test_what_a_live_sweep_has_not_yet_named_stays_for_a_day(chain):
    with Hold(chain.storage, "5eed", "sweep") as held:
        held.add([LABELS])
        held.save()
        assert [(known.name, known.live) for known in all_holds(chain.storage)] == [("sweep", True)]
        import time

        started = time.time()
        soon = {g.name for g in collect(chain, 0.0, dry_run=True, now=lambda: started + LIVE_GRACE_S / 2)}
        assert soon == set()
        assert f"records/{ORPHAN}.json" in removed(chain, dry_run=True)
    assert [known.live for known in all_holds(chain.storage)] == [False]


@pytest.mark.slow
def test_a_forgotten_sweep_keeps_nothing(chain):
    hold(chain, LABELS)
    release(chain.storage, "5eed")
    removed(chain)
    assert names(chain) == set()
    assert not list((chain.scratch / "views").glob("*"))


@pytest.mark.slow
def test_shared_blobs_stay_with_the_last_artifact_that_has_them(store):
    other = "warmup-fedcba9876543210"
    for key in (WARMUP, other):
        store.put(key, fill(store.staging(), "the same"), record(key))
    hold(store, other)
    removed(store)
    assert list(store.keys()) == [other]
    store.verify(other)


@pytest.mark.slow
def test_checkpoints_of_unfinished_stages_stay(chain):
    unfinished = "train_cam-00000000deadbeef"
    hold(chain, unfinished, LABELS)
    for key in (unfinished, TRAIN, "train_cam-00000000cafecafe"):
        chain.storage.write(f"checkpoints/{key}.pt", b"state")
    chain.storage.touch(f"records/{TRAIN}.json")  # its stage ended after the checkpoint was written
    gone = {name for name in removed(chain) if name.startswith("checkpoints/")}
    assert gone == {f"checkpoints/{TRAIN}.pt", "checkpoints/train_cam-00000000cafecafe.pt"}


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": "x"}', b'{"name": "x", "keys": 3}', b"\xff"])
def test_nothing_is_removed_while_a_sweeps_list_cannot_be_read(chain, content):
    chain.storage.write("sweeps/5eed.json", content)
    before = names(chain)
    with pytest.raises(ArtifactCorrupt, match="not a list of keys"):
        removed(chain)
    assert names(chain) == before


@pytest.mark.slow
def test_what_a_check_was_killed_over_is_tidied_away(store, store_uri, tmp_path):
    """It had written its probe and not yet deleted it; those of living processes stay."""
    uri, endpoint = store_uri
    folder, own = tmp_path / "killed", f"{PROBES}{new_name()}"
    script = f"""
import os, signal
from pathlib import Path
from workers.artifacts.opening import open_store
from workers.processes.temporary import new_name

storage = open_store({uri!r}, Path({str(folder)!r}), {endpoint!r}).storage
storage.write("{PROBES}" + new_name(), b"probe")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == -signal.SIGKILL
    store.storage.write(own, b"probe")
    assert len(list(store.storage.list(PROBES))) == 2
    tidy(store)
    assert [info.name for info in store.storage.list(PROBES)] == [own]


@pytest.mark.slow
def test_what_others_put_among_the_checkpoints_is_left_alone_until_collected(chain):
    names = ["checkpoints/garbage", "checkpoints/a b.pt", "checkpoints/below/it.pt"]
    for name in names:
        chain.storage.write(name, b"")
    tidy(chain)
    assert sorted(info.name for info in chain.storage.list("checkpoints/")) == sorted(names)
    list(collect(chain, 0.0, dry_run=False, now=lambda: time.time() + 10))
    assert not list(chain.storage.list("checkpoints/"))


def test_lineage(chain):
    assert [(depth, key) for depth, _, key, _ in ancestors(chain, LABELS)] == [(1, CAMS), (2, TRAIN), (3, WARMUP)]
    assert list(descendants(chain, WARMUP)) == [(1, TRAIN), (2, CAMS), (3, LABELS)]
    chain.discard(TRAIN)
    assert [(key, stored) for _, _, key, stored in ancestors(chain, LABELS)] == [(CAMS, True), (TRAIN, False)]


@pytest.mark.slow
def test_export_in_the_layout_of_voc(store, tmp_path):
    source = store.staging()
    (source / "labels").mkdir()
    (source / "overlays").mkdir()
    for name in ("2007_000032", "2007_000039"):
        image = Image.new("P", (5, 4), 3)
        image.save(source / "labels" / f"{name}.png")
        image.save(source / "overlays" / f"{name}.png")
    store.put(LABELS, source, record(LABELS))
    assert export_labels(store, LABELS, tmp_path / "voc") == 2
    exported = contents(tmp_path / "voc")
    assert set(exported) == {
        "SegmentationClassAug/2007_000032.png",
        "SegmentationClassAug/2007_000039.png",
        "ImageSets/Segmentation/train_aug.txt",
    }
    assert exported["ImageSets/Segmentation/train_aug.txt"] == b"2007_000032\n2007_000039\n"
    assert exported["SegmentationClassAug/2007_000032.png"] == store.read(LABELS, "labels/2007_000032.png")
    with pytest.raises(ConfigError, match="is there already"):
        export_labels(store, LABELS, tmp_path / "voc")
    store.put(ORPHAN, store.staging(), record(ORPHAN))
    with pytest.raises(ConfigError, match="holds no pseudo-labels"):
        export_labels(store, ORPHAN, tmp_path / "other")
