"""Servers that speak S3, and stores on every storage."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from artifact_stores import reopened
from staging_places import Place

from workers.artifacts.store import ArtifactStore
from workers.processes import identity
from workers.staging import cache

KINDS = ("file", "s3")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server in this process; AREAM_TEST_S3 names a real one instead (its keys in AWS_*)."""
    given = os.environ.get("AREAM_TEST_S3")
    if given:
        yield given
        return
    from moto.server import ThreadedMotoServer  # takes a second, and few tests want it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_keys(monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if name not in os.environ:
            monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(s3_endpoint, s3_keys) -> str:
    import boto3

    name = f"aream-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    return name


@pytest.fixture(params=KINDS)
def store_uri(request, tmp_path) -> tuple[str, str | None]:
    """(URI, endpoint) of an empty store of each kind."""
    if request.param == "file":
        return (tmp_path / "store").as_uri(), None
    bucket = request.getfixturevalue("bucket")
    return f"s3://{bucket}/some/prefix", request.getfixturevalue("s3_endpoint")


@pytest.fixture
def store(store_uri, tmp_path) -> ArtifactStore:
    return reopened(store_uri, tmp_path)


@pytest.fixture
def machine() -> Iterator[Callable[[str], None]]:
    """Makes this process one of a machine with another name, or of another boot, for whoever asks where it runs."""
    with pytest.MonkeyPatch.context() as patched:

        def become(name: str) -> None:
            patched.setattr(identity, "machine_id", lambda: name)
            identity._this.cache_clear()

        yield become
    identity._this.cache_clear()


@pytest.fixture
def node(tmp_path, monkeypatch) -> Path:
    """The folder of a node that has staged nothing."""
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "node"))
    monkeypatch.delenv(cache.BYTES, raising=False)
    monkeypatch.setenv(cache.HANDED, "")
    return tmp_path / "node"


@pytest.fixture
def place(store_uri, node) -> Place:
    uri, endpoint = store_uri
    cache.hand_on(cache.MAX_BYTES, endpoint, (uri, "unused", endpoint))
    return Place(uri, endpoint)


@pytest.fixture
def folder(tmp_path, node) -> Place:
    return Place((tmp_path / "store").as_uri(), None)
