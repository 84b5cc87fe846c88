"""What every store must do, on every kind of storage."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artifact_stores import KEY, contents, fill, record, reopened

from aream.errors import ArtifactCorrupt, ArtifactNotFound, ConfigError, DataError
from workers.artifacts import packing
from workers.artifacts.blobs import blob_name
from workers.artifacts.opening import open_store

OTHER = "train_cam-fedcba9876543210"
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_put_get_and_list(store):
    assert not store.has(KEY)
    written = store.put(KEY, fill(store.staging()), record())
    assert store.has(KEY)
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "hello"
    assert {entry.path for entry in store.files(written)} == {"labels/a.png", "labels/empty", "curve.json"}
    assert (written.files, written.size) == (3, 7)
    assert store.record(KEY) == written
    assert list(store.keys()) == [KEY]
    assert store.read(KEY, "labels/a.png") == b"hello"
    store.verify(KEY)


@pytest.mark.slow
def test_another_machine_gets_the_same_files(store, store_uri, tmp_path):
    source = fill(tmp_path / "source")
    generator = random.Random(0)
    for size in (packing.SMALL_BYTES, packing.SMALL_BYTES + 1, 3 * packing.PACK_BYTES):
        (source / f"{size}.bin").write_bytes(generator.randbytes(size))
    for number in range(3000):
        (source / "labels" / f"{number}.png").write_bytes(generator.randbytes(generator.randrange(4000)))
    store.put(KEY, source, record())
    there = reopened(store_uri, tmp_path, "there")
    assert contents(there.get(KEY)) == contents(source)
    assert there.read(KEY, "labels/17.png") == (source / "labels" / "17.png").read_bytes()
    blobs = list(store.storage.list("blobs/"))
    assert len(blobs) < 20  # 3,000 files do not mean 3,000 objects


@pytest.mark.slow
def test_artifacts_share_their_blobs(store):
    def labels(folder: Path, first: int) -> Path:
        generator = random.Random(1)
        for number in range(4000):
            content = generator.randbytes(1000)
            if number >= first:
                (folder / f"{number:05d}.png").write_bytes(content)
        (folder / "large.bin").write_bytes(b"x" * (packing.SMALL_BYTES + 1))
        return folder

    store.put(KEY, labels(store.staging(), 0), record())
    before = sum(info.size for info in store.storage.list("blobs/"))
    store.put(OTHER, labels(store.staging(), 5), record(OTHER))
    added = sum(info.size for info in store.storage.list("blobs/")) - before
    assert added < 0.6 * before  # the packs behind the first one, and the large file, are the same


@pytest.mark.slow
def test_a_folder_from_elsewhere_is_copied(store, tmp_path):
    source = fill(tmp_path / "elsewhere")
    store.put(KEY, source, record())
    (source / "labels" / "a.png").write_text("changed")
    assert store.read(KEY, "labels/a.png") == b"hello"


def test_a_second_writer_changes_nothing(store):
    first = store.put(KEY, fill(store.staging(), "first"), record())
    second = store.put(KEY, fill(store.staging(), "second"), record(seconds=9.0))
    assert second == first
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "first"
    assert not list((store.scratch / "staging").iterdir())


def test_what_is_not_there(store):
    for ask in (store.record, store.get, store.verify):
        with pytest.raises(ArtifactNotFound, match=KEY):
            ask(KEY)
    store.discard(KEY)
    store.put(KEY, fill(store.staging()), record())
    with pytest.raises(ArtifactNotFound, match="no file"):
        store.read(KEY, "labels/b.png")


def test_an_empty_folder_is_an_artifact(store, store_uri, tmp_path):
    store.put(KEY, store.staging(), record())
    assert contents(reopened(store_uri, tmp_path, "there").get(KEY)) == {}
    store.verify(KEY)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b"hellp"), lambda p: p.write_bytes(b""), Path.unlink])
def test_a_damaged_view_is_built_anew(store, store_uri, tmp_path, damage):
    store.put(KEY, fill(store.staging()), record())
    damage(store.get(KEY) / "labels" / "a.png")
    assert (reopened(store_uri, tmp_path).get(KEY) / "labels" / "a.png").read_text() == "hello"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
@pytest.mark.parametrize("size", [100, packing.SMALL_BYTES + 1], ids=["packed", "large"])
def test_a_damaged_blob_is_seen_and_can_be_computed_again(store, store_uri, tmp_path, damage, size):
    def source() -> Path:
        folder = store.staging()
        (folder / "file").write_bytes(b"x" * size)
        return folder

    store.put(KEY, source(), record())
    name = blob_name(next(iter(store.files(store.record(KEY)))).blob)
    if damage == "gone":
        store.storage.delete(name)
    else:
        store.storage.write(name, b"y" * size if damage == "flipped" else b"x" * (size // 2))
    shutil.rmtree(store.scratch / "views")  # a folder's readers share theirs
    there = reopened(store_uri, tmp_path, "there")
    for ask in (there.verify, there.get, lambda key: there.read(key, "file")):
        with pytest.raises(ArtifactCorrupt, match=KEY):
            ask(KEY)
    there.discard(KEY)
    assert not store.has(KEY)
    store.put(KEY, source(), record())
    assert there.read(KEY, "file") == b"x" * size
    there.verify(KEY)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "x"}', "\xff", '"seconds"', "[" * 100_000])
def test_an_unreadable_record_is_corrupt(store, text):
    store.put(KEY, fill(store.staging()), record())
    if text == '"seconds"':
        text = store.record(KEY).to_json().replace('"seconds"', '"second"')
    store.storage.write(f"records/{KEY}.json", text.encode("latin-1"))
    with pytest.raises(ArtifactCorrupt, match=KEY):
        store.record(KEY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b'["../../etc/passwd", 5, "DIGEST", "DIGEST", 0]',
        b'["/etc/passwd", 5, "DIGEST", "DIGEST", 0]',
        b'["a/../../b", 5, "DIGEST", "DIGEST", 0]',
        b'["a\\u0000b", 5, "DIGEST", "DIGEST", 0]',
        b'["", 5, "DIGEST", "DIGEST", 0]',
        b'["a//b", 5, "DIGEST", "DIGEST", 0]',
        b'["a", 5, "DIGEST", "../../../../etc/passwd", 0]',
        b'["a", -5, "DIGEST", "DIGEST", 0]',
        b'["a", 5, "DIGEST", "DIGEST", 99999999999999999999999]',
        b'["a", 9000000000, "DIGEST", "DIGEST", 0]\n["b", 900000000000, "DIGEST", "DIGEST", 0]',
        b'["a", 5, "DIGEST", "DIGEST", 0]\n["a/b", 5, "DIGEST", "DIGEST", 0]',
        b'["a", 5, "DIGEST", "DIGEST", 0]\n["a", 5, "DIGEST", "DIGEST", 0]',
        b"[" * 5000,
        b"null",
        b"\xff\xfe",
    ],
)
def test_a_file_list_that_points_outside_is_refused(store, store_uri, tmp_path, line):
    import hashlib

    store.put(KEY, fill(store.staging()), record())
    digest = next(e for e in store.files(store.record(KEY)) if e.path == "labels/a.png")
    content = line.replace(b"DIGEST", digest.sha256.encode(), 1).replace(b"DIGEST", digest.blob.encode())
    index = hashlib.sha256(content).hexdigest()
    store.storage.write(blob_name(index), content)
    hostile = dataclasses.replace(store.record(KEY), index=index)
    store.storage.write(f"records/{KEY}.json", hostile.to_json().encode())
    shutil.rmtree(store.scratch / "views")
    there = reopened(store_uri, tmp_path, "there")
    with pytest.raises(ArtifactCorrupt, match=KEY):
        there.get(KEY)
    assert not list((there.scratch / "views").glob("*"))


@pytest.mark.parametrize(
    "key",
    ["", "../x-0123456789ab", "a/b-0123456789ab", "x-xyz", "x-0123456789ab\0", "X-0123456789ab", "x-0123456789ab\n"],
)
def test_hostile_keys_are_refused(store, key):
    for ask in (store.has, store.record, store.get, store.discard):
        with pytest.raises(ConfigError, match="artifact key"):
            ask(key)


def test_links_are_refused(store):
    source = fill(store.staging())
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="plain files"):
        store.put(KEY, source, record())
    assert not store.has(KEY)


@pytest.mark.slow
def test_a_writer_killed_before_its_record_leaves_nothing_readable(store, store_uri, tmp_path):
    """A real process, killed when all blobs are there and the record is not; what it staged is removed later."""
    fill(tmp_path / "source")
    uri, endpoint = store_uri
    script = (
        "import sys; from pathlib import Path\n"
        "from workers.artifacts.opening import open_store; from workers.artifacts.record import ArtifactRecord\n"
        f"store = open_store({uri!r}, Path({str(tmp_path / 'here' / 'artifacts')!r}), {endpoint!r})\n"
        f"record = ArtifactRecord.from_json(Path({str(tmp_path / 'record.json')!r}).read_text(), '')\n"
        "def blocked(name, content): print('published', flush=True); sys.stdin.read()\n"
        "store.storage.create = blocked\n"
        f"store.put(record.key, Path({str(tmp_path / 'source')!r}), record)\n"
    )
    (tmp_path / "record.json").write_text(record(index="0" * 64).to_json())
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "published\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(store.storage.list("blobs/"))
    assert not store.has(KEY)
    assert store.remove_orphans() == 1
    assert not list((store.scratch / "staging").iterdir())
    store.put(KEY, fill(store.staging(), "second try"), record())
    assert (store.get(KEY) / "labels" / "a.png").read_text() == "second try"


KEYS = [f"pseudo_label-{number:016x}" for number in range(200)]


def _put_and_get(arguments: tuple[tuple[str, str | None], str, int, float]) -> tuple[int, dict[str, str]]:
    """One of eight processes: random keys, put and read, until the time is over; returns what it read of each key."""
    store_uri, folder, number, seconds = arguments
    store = reopened(store_uri, Path(folder), f"machine{number % 2}")
    generator, until, rounds = random.Random(number), time.monotonic() + seconds, 0
    seen: dict[str, str] = {}
    while time.monotonic() < until or rounds < 20:
        key = generator.choice(KEYS)
        rounds += 1
        source = store.staging()
        for name in ("a", "b"):
            (source / name).write_text(f"{number} {key} {name}")
        kept = store.put(key, source, record(key, host=f"writer {number}"))
        winner = kept.host.split()[1]
        folder_of = store.get(key)
        for name in ("a", "b"):
            assert (folder_of / name).read_text() == f"{winner} {key} {name}"
        assert seen.setdefault(key, winner) == winner
    return rounds, seen


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [60.0])
def test_eight_processes_with_the_same_keys(store_uri, tmp_path, seconds):
    """No error, no torn read, one winner a key."""
    work = [(store_uri, str(tmp_path), number, seconds) for number in range(8)]
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        done = pool.map(_put_and_get, work, chunksize=1)
    store = reopened(store_uri, tmp_path)
    for _, seen in done:
        assert all(store.record(key).host == f"writer {winner}" for key, winner in seen.items())
    for key in store.keys():
        store.verify(key)


def test_open_store(tmp_path):
    assert open_store(None, tmp_path).scratch == tmp_path
    assert open_store(f"file://{tmp_path}/a%20b", tmp_path).scratch == tmp_path / "a b"
    assert open_store(str(tmp_path / "x"), tmp_path).scratch == tmp_path / "x"
    for uri in ("ftp://x", "protocol://x", "s3://", "s3://key:secret@bucket/x", "file://host/x", "x\0y", "s3://b?x=1"):
        with pytest.raises(ConfigError, match=r"store\.uri") as refusal:
            open_store(uri, tmp_path)
        assert "secret" not in str(refusal.value)


@pytest.mark.slow
def test_the_store_needs_no_torch():
    """A process that only moves files starts in a second and takes a tenth of the memory."""
    script = (
        "import sys; from pathlib import Path; from workers.artifacts.opening import open_store\n"
        "open_store('s3://bucket/prefix', Path('.')); assert 'torch' not in sys.modules\n"
        "import torchvision; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
