"""ControlFile of requests that only another process at the same moment brings about."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from artifact_stores import KEY, fill, record
from faulty_proxy import FaultyProxy

from workers.artifacts.storages.s3 import S3Storage
from workers.artifacts.store import ArtifactStore


@pytest.mark.slow
def test_a_refused_put_whose_rival_deletes_the_object_is_lost(s3_endpoint, bucket, monkeypatch):
    """The server's refusal is real; between it and the loser's look the object goes."""
    winner, loser = (S3Storage(bucket, "p", s3_endpoint) for _ in range(2))
    assert loser.conditional()
    assert winner.create("x", b"winner")
    read = loser.read

    def read_too_late(name, *arguments, **named):
        winner.delete(name)
        return read(name, *arguments, **named)

    monkeypatch.setattr(loser, "read", read_too_late)
    assert not loser.create("x", b"loser")
    assert loser.create("x", b"loser again")


def test_without_conditional_puts_the_loser_gets_the_record_that_the_winner_still_writes(
    s3_endpoint, bucket, tmp_path, monkeypatch
):
    with FaultyProxy(s3_endpoint) as proxy:
        proxy.dropped_header = "if-none-match"
        first, second = (ArtifactStore(S3Storage(bucket, "p", proxy.url), tmp_path / name) for name in "ab")
        writes, looked_again = threading.Event(), threading.Event()
        write, listed, looks = first.storage.write, second.storage.list, 0

        def slow(name, content):
            if name.startswith("records/"):
                writes.set()
                looked_again.wait(30)
            write(name, content)

        def counted(prefix):
            nonlocal looks
            looks += prefix.startswith("claims/")
            if looks > 2:
                looked_again.set()
            return listed(prefix)

        monkeypatch.setattr(first.storage, "write", slow)
        monkeypatch.setattr(second.storage, "list", counted)

        def publish(store, seconds):
            return store.put(KEY, fill(store.staging(), str(seconds)), record(seconds=seconds))

        with ThreadPoolExecutor(2) as pool:
            won = pool.submit(publish, first, 1.0)
            assert writes.wait(60)
            lost = pool.submit(publish, second, 2.0)
            assert lost.result() == won.result()
        assert won.result().seconds == 1.0
        assert not list(first.storage.list("claims/"))


def test_unfinished_uploads_of_others_in_the_bucket_go_on(s3_endpoint, bucket):
    """A store without a prefix owns its own names only; one with a prefix nothing outside it."""
    whole, part = S3Storage(bucket, "", s3_endpoint), S3Storage(bucket, "lab", s3_endpoint)
    client = whole.client
    others = {"thesis/data.tar", "blobs-of-others/x", "lab/videos/1.mp4", "lab2/blobs/00/x"}
    for key in (*others, "blobs/00/own", "lab/blobs/00/own"):
        client.create_multipart_upload(Bucket=bucket, Key=key)

    def unfinished() -> set[str]:
        return {upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])}

    assert whole.discard_unfinished(older_than=0) == 1
    assert unfinished() == {*others, "lab/blobs/00/own"}
    assert part.discard_unfinished(older_than=0) == 1
    assert unfinished() == others
    assert whole.discard_unfinished(older_than=0) == 0
