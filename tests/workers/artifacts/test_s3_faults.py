"""A server that answers 500, 503 and SlowDown, cuts connections and truncates bodies, or knows no conditional put."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
from artifact_stores import contents, fill, record
from botocore.awsrequest import AWSResponse
from faulty_proxy import FAULTS, FaultyProxy
from moto.core.botocore_stubber import MockRawResponse

from aream.errors import ConfigError, StoreUnavailable
from workers.artifacts import packing
from workers.artifacts.opening import open_store
from workers.artifacts.storages import _claims, s3
from workers.artifacts.storages.s3 import S3Storage
from workers.artifacts.store import ArtifactStore
from workers.artifacts.waits import Waits


@pytest.fixture
def proxy(s3_endpoint):
    with FaultyProxy(s3_endpoint) as proxy:
        yield proxy


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_artifacts_survive_every_fault(proxy, bucket, tmp_path, seed):
    proxy.random.seed(seed)
    store = ArtifactStore(S3Storage(bucket, "p", proxy.url), tmp_path / "here")
    store.storage.conditional()
    proxy.rate = 0.3
    expected = {}
    for number in range(6):
        key = f"infer_cam-{number:016x}"
        source = fill(store.staging(), f"text {number}")
        (source / "large").write_bytes(bytes([number]) * (3 * packing.PACK_BYTES if number == 0 else 2_000_000))
        expected[key] = contents(source)
        store.put(key, source, record(key))
    there = ArtifactStore(S3Storage(bucket, "p", proxy.url), tmp_path / "there")
    for key, files in expected.items():
        assert contents(there.get(key)) == files
    proxy.rate = 0.0
    assert sorted(there.keys()) == sorted(expected)
    assert proxy.met == set(FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 2])
def test_a_server_is_waited_for_as_long_as_is_set(proxy, bucket, tmp_path, retries):
    waits = Waits(connect_seconds=3.0, read_seconds=7.0, retries=retries, patience_seconds=1e-3)
    storage = open_store(f"s3://{bucket}/p", tmp_path / "artifacts", proxy.url, waits=waits).storage
    proxy.always, proxy.requests = "cut", []
    with pytest.raises(StoreUnavailable, match=r"no answer for 0\.001 s"):
        storage.read("x")
    assert len(proxy.requests) == 1 + retries
    config = storage.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (3.0, 7.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"connect_seconds": 0.0}, "connect_seconds: need a number above 0, at most 604800, got 0.0"),
        ({"read_seconds": float("nan")}, "read_seconds: need a number above 0, at most 604800, got nan"),
        ({"patience_seconds": float("inf")}, "patience_seconds: need a number above 0, at most 604800, got inf"),
        ({"retries": -1}, "retries: need a number in 0..100, got -1"),
    ],
)
def test_impossible_waits_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Waits(**change)


def test_a_server_that_is_away_is_named_and_no_credential_is(proxy, bucket, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "PLANTEDKEY")
    storage = S3Storage(bucket, "p", proxy.url, Waits(patience_seconds=1.0))
    proxy.always = "503"
    with pytest.raises(StoreUnavailable, match=rf"s3://{bucket}/p: no answer for 1 s"):
        storage.write("x", b"x")
    proxy.always = "403"
    with pytest.raises(ConfigError, match=r"refuses") as refusal:
        storage.write("x", b"x")
    caplog_own = "".join(
        r.getMessage() for r in caplog.records if not r.name.startswith(("boto", "urllib3", "werkzeug"))
    )
    for text in (str(refusal.value), repr(storage), caplog_own):
        assert "planted-secret" not in text
        assert "PLANTEDKEY" not in text


def test_what_the_server_refuses_is_not_repeated(proxy, bucket):
    storage = S3Storage(bucket, "p", proxy.url)
    proxy.always = "403"
    with pytest.raises(ConfigError):
        storage.read("x")
    assert len(proxy.requests) == 1


def set_clock_off(storage: S3Storage, ahead_s: float, requests: float) -> None:
    """The first so many requests are refused as S3 refuses a time of signing; HEAD has no body, so no code."""
    left = [requests]

    def refuse(request, **_: object) -> AWSResponse | None:
        left[0] -= 1
        body = "" if request.method == "HEAD" else "<Error><Code>RequestTimeTooSkewed</Code></Error>"
        headers = {"date": formatdate(time.time() - ahead_s, usegmt=True)}
        return AWSResponse(request.url, 403, headers, MockRawResponse(body)) if left[0] >= 0 else None

    storage.client.meta.events.register("before-send.s3", refuse)


CALLS: list[Callable[[S3Storage], object]] = [
    lambda storage: storage.write("x", b"y"),
    lambda storage: storage.read("x"),
    lambda storage: storage.stat("x"),
    lambda storage: storage.conditional(),
    lambda storage: storage.upload("y", Path(__file__)),
    lambda storage: list(storage.list("")),
]


@pytest.mark.slow
@pytest.mark.parametrize("ahead_s", [-1200.0, 1200.0])
@pytest.mark.parametrize("call", CALLS, ids=["write", "read", "stat", "conditional", "upload", "list"])
def test_a_clock_that_is_off_is_waited_for_and_named(s3_endpoint, bucket, call, ahead_s):
    storage = S3Storage(bucket, "p", s3_endpoint)
    storage.write("x", b"y")
    set_clock_off(storage, ahead_s, requests=2)
    call(storage)
    assert storage.read("x") == b"y"
    impatient = S3Storage(bucket, "p", s3_endpoint, Waits(patience_seconds=0.5))
    set_clock_off(impatient, ahead_s, requests=float("inf"))
    with pytest.raises(StoreUnavailable, match=r"the clock of .* is more than 15 min off"):
        call(impatient)


@pytest.mark.slow
def test_a_refused_head_of_the_right_time_is_refused(s3_endpoint, bucket):
    storage = S3Storage(bucket, "p", s3_endpoint)
    set_clock_off(storage, 60.0, requests=1)
    with pytest.raises(ConfigError, match="refuses x: 403"):
        storage.stat("x")


@pytest.mark.parametrize(
    ("name", "match"), [("no-such-bucket-here", "NoSuchBucket"), (None, "no answer")], ids=["bucket", "server"]
)
def test_check_says_what_is_wrong(s3_endpoint, s3_keys, bucket, monkeypatch, name, match):
    monkeypatch.setattr(s3, "CHECK_PATIENCE_S", 1.0)
    endpoint = s3_endpoint if name else "http://127.0.0.1:9"
    with pytest.raises((ConfigError, StoreUnavailable), match=match):
        S3Storage(name or bucket, "p", endpoint).check()
    S3Storage(bucket, "p", s3_endpoint).check()


@pytest.mark.slow
def test_no_credentials(bucket, s3_endpoint, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="finds no credentials"):
        S3Storage(bucket, "p", s3_endpoint).read("x")


@pytest.mark.slow
def test_one_writer_wins_also_without_conditional_puts(s3_endpoint, bucket):
    with FaultyProxy(s3_endpoint) as proxy:
        proxy.dropped_header = "if-none-match"
        storages = [S3Storage(bucket, "p", proxy.url) for _ in range(8)]
        assert not storages[0].conditional()
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda number: storages[number].create("x", f"writer {number}".encode()), range(8)))
        assert won.count(True) == 1
        assert storages[0].read("x") == f"writer {won.index(True)}".encode()
        assert not list(storages[0].list("claims/"))


@pytest.mark.slow
def test_one_writer_wins_with_conditional_puts(s3_endpoint, bucket):
    storages = [S3Storage(bucket, "p", s3_endpoint) for _ in range(8)]
    assert storages[0].conditional()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: storages[number].create("x", f"writer {number}".encode()), range(8)))
    assert won.count(True) == 1


def test_a_claim_of_a_dead_writer_stands_in_nobodys_way(s3_endpoint, bucket, monkeypatch):
    with FaultyProxy(s3_endpoint) as proxy:
        proxy.dropped_header = "if-none-match"
        storage = S3Storage(bucket, "p", proxy.url)
        storage.write("claims/x/0", b"")
        monkeypatch.setattr(_claims, "LIFE_S", 1.0)
        time.sleep(2.5)
        assert storage.create("x", b"mine")


def test_unfinished_uploads_are_dropped(s3_endpoint, bucket):
    storage = S3Storage(bucket, "p", s3_endpoint)
    storage.client.create_multipart_upload(Bucket=bucket, Key="p/blobs/00/half")
    assert storage.discard_unfinished(older_than=0) == 1
    assert storage.discard_unfinished(older_than=0) == 0


@pytest.mark.slow
def test_threads_share_a_storage(s3_endpoint, bucket):
    storage = S3Storage(bucket, "p", s3_endpoint)
    errors = []

    def work(number: int) -> None:
        try:
            storage.write(f"{number}", bytes([number]))
            assert storage.read(f"{number}") == bytes([number])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(list(storage.list(""))) == 16
