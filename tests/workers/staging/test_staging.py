"""Items fetched once a node: by real processes that race, die and fill the folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from artifact_stores import KEY, fill, record, reopened
from faulty_proxy import FaultyProxy
from staging_places import WEIGHTS, Place, archive, items

from aream.errors import AreamError, ConfigError, DataError, StoreUnavailable
from workers.staging import cache
from workers.staging.cache import staged

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 240
"""Four processes that start at once take a busy machine a minute."""
PROGRAM = """
import logging, sys
from workers.staging.cache import staged
logging.basicConfig(level=logging.INFO, format="%(message)s")
print(staged(sys.argv[1]), flush=True)
sys.stdin.read()
"""


def user(uri: str) -> subprocess.Popen[str]:
    """A process that uses an item until its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, uri], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, process.stderr.read() if process.stderr else ""
    return line


@pytest.mark.slow
def test_what_a_uri_names(place):
    sums = "".join(
        f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in ((b"a", b"one"), ("sub/b", b"two")) if n != b"a"
    )
    place.put("voc/a", b"one")
    place.put("voc/sub/b", b"two")
    place.put("voc/SHA256SUMS", sums.encode())
    place.put("vocal", b"of another name")
    weights = place.put("vit.pth", WEIGHTS)
    place.put("vit.pth.sha256", f"{hashlib.sha256(WEIGHTS).hexdigest()}  vit.pth\n".encode())
    packed = place.put("voc.tar", archive({"VOC2012/a": b"one"}))
    zipped = place.put("voc.tgz", archive({"VOC2012/a": b"one"}, "w:gz"))
    published = place.put("conformer.pth.tar", b"no archive")

    found = staged(f"{place.uri}/voc")
    assert {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()} == {"a", "sub/b", "SHA256SUMS"}
    assert (staged(weights).name, staged(weights).read_bytes()) == ("vit.pth", WEIGHTS)
    assert (staged(packed) / "VOC2012" / "a").read_bytes() == b"one"
    assert (staged(f"{zipped}#VOC2012") / "a").read_bytes() == b"one"
    assert staged(f"{zipped}#VOC2012/a").read_bytes() == b"one"
    assert staged(published).read_bytes() == b"no archive"
    with pytest.raises(DataError, match=r"holds no '\.\./\.\./item\.json'"):
        staged(f"{zipped}#../../item.json")
    with pytest.raises(DataError, match="holds no 'VOC2021'; it holds VOC2012"):
        staged(f"{zipped}#VOC2021")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "error"),
    [("{}/typo.tar", "no such object"), ("ftp://lab/voc", "allowed are a path, file://, s3://, artifact://"),
     ("s3://bucket", "names no object"), ("artifact://voc", "artifact key 'voc'")],
)  # fmt: skip
def test_a_uri_that_names_nothing(place, uri, error):
    with pytest.raises(AreamError, match=error):
        staged(uri.format(place.uri))


def test_an_artifact_of_the_own_store(place, store_uri, tmp_path):
    store = reopened(store_uri, tmp_path)
    store.put(KEY, fill(store.staging()), record())
    assert (staged(f"artifact://{KEY}") / "curve.json").read_text() == "{}"
    assert staged(f"artifact://{KEY}#labels/a.png").read_text() == "hello"
    assert cache.artifact_key(f"artifact://{KEY}#labels") == KEY
    assert cache.artifact_key(f"{place.uri}/x") is None


def test_it_is_a_copy_of_its_own(folder):
    """A link, hard or soft, would change with the file it came from."""
    uri = folder.put("vit.pth", b"first")
    latest = Path(uri.removeprefix("file://")).with_name("latest.pth")
    latest.symlink_to("vit.pth")
    path, by_link = staged(uri), staged(latest.as_uri())
    with Path(uri.removeprefix("file://")).open("r+b") as file:
        file.write(b"FIRST")
    assert path.read_bytes() == by_link.read_bytes() == b"first"


def test_a_worker_keeps_to_what_the_driver_saw(folder, monkeypatch):
    uri = folder.put("vit.pth", b"first")
    cache.hand_on(cache.MAX_BYTES, None, (None, "unused", None))
    path = staged(uri)
    for_workers = cache.handed_on()[cache.HANDED]
    os.remove(uri.removeprefix("file://"))
    monkeypatch.setenv(cache.HANDED, for_workers)
    assert staged(uri) == path  # nobody is asked
    folder.put("vit.pth", b"second")
    monkeypatch.setenv(cache.FOLDER, f"{os.environ[cache.FOLDER]}-of-another-node")
    with pytest.raises(DataError, match="not what it was when the sweep began"):
        staged(uri)


def test_a_changed_source_is_another_item(folder, monkeypatch):
    uri = folder.put("vit.pth", b"first")
    assert staged(uri).read_bytes() == b"first"
    folder.put("vit.pth", b"the second")
    cache.hand_on(1 << 30, None, (None, "of the next sweep", None))
    assert staged(uri).read_bytes() == b"the second"


def test_a_damaged_item_is_fetched_again(folder):
    uri = folder.put("vit.pth", WEIGHTS)
    with user(uri) as process:
        path = Path(said(process))
    path.write_bytes(WEIGHTS[:5000])
    assert staged(uri).read_bytes() == WEIGHTS


class Stuck(FaultyProxy):
    """Holds every GET of an object whose name ends so, until it is told to go on."""

    def __init__(self, target: str, end: str) -> None:
        super().__init__(target)
        self.end, self.arrived, self.go_on = end, threading.Semaphore(0), threading.Event()

    def fault(self) -> str | None:
        method, path = self.requests[-1].split()
        if method == "GET" and path.endswith(self.end):
            self.arrived.release()
            self.go_on.wait()
        return super().fault()

    def fetched(self) -> int:
        return sum(request.startswith("GET") and request.endswith(self.end) for request in self.requests)


@pytest.fixture
def stuck(bucket, s3_endpoint, node) -> Iterator[tuple[Stuck, str]]:
    """A server that has one item and does not give it yet."""
    uri = Place(f"s3://{bucket}", s3_endpoint).put("vit.pth", WEIGHTS)
    with Stuck(s3_endpoint, "vit.pth") as proxy:
        cache.hand_on(cache.MAX_BYTES, proxy.url, (None, "unused", None))
        yield proxy, uri
        proxy.go_on.set()


@pytest.mark.slow
def test_of_many_processes_one_fetches(stuck):
    proxy, uri = stuck
    processes = [user(uri) for _ in range(4)]
    assert proxy.arrived.acquire(timeout=PATIENCE_S)
    proxy.go_on.set()
    paths = {said(process) for process in processes}
    for process in processes:
        process.communicate()
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == WEIGHTS
    assert proxy.fetched() == 1


@pytest.mark.slow
def test_the_work_of_a_killed_process_is_taken_over(stuck, node):
    proxy, uri = stuck
    with user(uri) as first:
        assert proxy.arrived.acquire(timeout=PATIENCE_S)
        assert [path.name for path in (node / "partial").glob("*")]
        with user(uri) as second:
            assert second.stderr is not None
            while f"waiting for pid {first.pid} on" not in second.stderr.readline():
                assert second.poll() is None
            assert items(node) == set()  # nothing half-written is there to be read
            first.send_signal(signal.SIGKILL)
            first.wait()
            assert proxy.arrived.acquire(timeout=PATIENCE_S)
            proxy.go_on.set()
            assert Path(said(second)).read_bytes() == WEIGHTS
    assert items(node) == {"vit.pth"}
    assert not list((node / "partial").glob("*"))


@pytest.mark.slow
def test_what_a_dead_process_left_takes_no_room(stuck, node, monkeypatch):
    proxy, uri = stuck
    with user(uri) as first:
        assert proxy.arrived.acquire(timeout=PATIENCE_S)
        first.kill()
    proxy.go_on.set()
    assert list((node / "partial").glob("*"))
    monkeypatch.setenv(cache.BYTES, str(len(WEIGHTS) + 5000))
    other = Place(uri.rpartition("/lab/")[0], proxy.url).put("other.pth", WEIGHTS)
    assert staged(other).read_bytes() == WEIGHTS
    assert not list((node / "partial").glob("*"))


def test_eviction_leaves_what_a_live_process_uses(folder, node, monkeypatch):
    monkeypatch.setenv(cache.BYTES, str(int(2.5 * len(WEIGHTS))))
    uris = [folder.put(f"{name}.pth", WEIGHTS) for name in "abcd"]
    with user(uris[0]) as living:
        path = Path(said(living))
        with user(uris[1]) as ended:
            said(ended)
        with user(uris[2]) as third:
            said(third)
            assert items(node) == {"a.pth", "c.pth"}  # b was used more lately than a, which is in use
            with pytest.raises(StoreUnavailable) as caught:
                staged(uris[3])
            for part in ("d.pth: no room for 1.0 MB", "of which live processes use 2.1 MB", "staging.max_bytes"):
                assert part in str(caught.value)
        assert path.read_bytes() == WEIGHTS
        staged(uris[3])
        assert items(node) == {"a.pth", "d.pth"}


def test_the_least_lately_used_goes_first(folder, node, monkeypatch):
    monkeypatch.setenv(cache.BYTES, str(int(2.5 * len(WEIGHTS))))
    uris = [folder.put(f"{name}.pth", WEIGHTS) for name in "abc"]
    for uri in (uris[0], uris[1], uris[0], uris[2]):
        with user(uri) as process:
            said(process)
    assert items(node) == {"a.pth", "c.pth"}


def test_more_than_the_folder_may_ever_hold_evicts_nothing(folder, node, monkeypatch):
    monkeypatch.setenv(cache.BYTES, str(2 * len(WEIGHTS)))
    small, large = folder.put("small.pth", WEIGHTS), folder.put("large.pth", 3 * WEIGHTS)
    with user(small) as process:
        said(process)
    with pytest.raises(StoreUnavailable, match="no room for"):
        staged(large)
    assert items(node) == {"small.pth"}


@pytest.mark.parametrize("limit", ["0", "-5", "lots", "1e9"])
def test_an_impossible_limit(folder, monkeypatch, limit):
    monkeypatch.setenv(cache.BYTES, limit)
    with pytest.raises(ConfigError, match=cache.BYTES):
        staged(folder.put("a", b"a"))


def test_a_relative_folder_would_be_another_one_in_every_trial(folder, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, "staging")
    with pytest.raises(ConfigError, match=f"{cache.FOLDER}: need an absolute path, got 'staging'"):
        staged(folder.put("a", b"a"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(folder, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a disk")
    try:
        monkeypatch.setenv(cache.FOLDER, str(disk / "node"))
        with pytest.raises(StoreUnavailable, match=r"its disk has 0 bytes free beside the 1\.1 GB left to others"):
            staged(folder.put("vit.pth", WEIGHTS))
        assert not list((disk / "node" / "partial").glob("*"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_is_handed_on_holds_no_secret(place, s3_keys, monkeypatch):
    if os.environ["AWS_SECRET_ACCESS_KEY"] == "testing":  # a server that takes any key; a path may hold that word
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    staged(place.put("a", b"a"))
    handed = cache.handed_on()[cache.HANDED]
    assert set(json.loads(handed)) == {"max_bytes", "endpoint", "store", "versions"}
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in handed
