"""Credentials handed to a sweep are found nowhere afterwards: everything it wrote or printed is searched for them.

The chaos test looks for S3 keys in what a sweep on a cluster leaves; here are all kinds at once, a local Ray's logs,
and servers that refuse, since error messages are where a URL with a password gets out. What ``submit`` sends is looked
at in its own tests.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest
from answers import answering
from cluster import Service
from images import postgres
from ports import free_port

import sweeps

pytestmark = pytest.mark.integration

PLANTED = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEY61C0",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-61c0",
    "AWS_SESSION_TOKEN": "planted-session-61c0",
    "webhook": "planted-webhook-61c0",
    "MLflow": "planted-mlflow-61c0",
    "PostgreSQL": "planted-postgres-61c0",
}
AWS = {name: value for name, value in PLANTED.items() if name.startswith("AWS_")}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[str]:
    """The endpoint of an S3 server with a bucket."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = Service("S3", command, url, tmp_path_factory.mktemp("s3") / "log")
    server.start()
    try:
        server.wait()
        client(url).create_bucket(Bucket="lab")
        yield url
    finally:
        server.kill()


def client(endpoint: str):
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where a local Ray writes its logs; short, as a socket's path must be."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def printed(*command: str, environment: Mapping[str, str], expect: int = 0) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=sweeps.ROOT, env={**sweeps.environment(), **environment}, capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout.decode() + done.stderr.decode()
    return done.stdout + done.stderr


def leaks(places: Mapping[str, bytes]) -> list[str]:
    return [
        f"{name} in {place}"
        for place, content in places.items()
        for name, value in PLANTED.items()
        if value.encode() in content
    ]


def files(*folders: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_nothing_that_a_sweep_leaves_holds_a_credential(store, ray_folder, tmp_path):
    sweep = sweeps.changed(
        sweeps.write_small(tmp_path), store=f"{{uri: 's3://lab/store', endpoint: '{store}'}}", limits="{retries: 0}"
    )
    with answering(500) as refusing, postgres.running("sweeper", PLANTED["PostgreSQL"]) as port:
        server = f"127.0.0.1:{refusing.server_port}"
        database = f"postgresql://sweeper:{PLANTED['PostgreSQL']}@127.0.0.1:{port}/postgres"
        sweeps.changed(sweep, search=f"{{algorithm: random, trials: 2, storage: '{database}'}}")
        sweep.write_text(sweep.read_text().replace("[0.25, 0.35]", "{uniform: [0.25, 0.35]}"))
        environment = {
            **AWS,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_TRACKING_URI": f"http://tracker:{PLANTED['MLflow']}@{server}",
            "AREAM_WEBHOOK": f"http://{server}/hooks/{PLANTED['webhook']}",
            "RAY_TMPDIR": str(ray_folder),
        }
        output = printed("orchestrator.sweep", str(sweep), environment=environment)
        assert b"events wait for http://tracker:***@" in output
        places = {
            "output": output,
            "status": printed("orchestrator.status", str(sweep), environment=environment),
            "log": printed("orchestrator.status", str(sweep), "--log", "sweep", environment=environment),
            "report": printed("orchestrator.report", str(sweep), environment=environment),
            "plan": printed("orchestrator.sweep", str(sweep), "--plan", environment=environment),
        }
    bucket = client(store)
    for page in bucket.get_paginator("list_objects_v2").paginate(Bucket="lab"):
        for entry in page["Contents"]:
            places[entry["Key"]] = bucket.get_object(Bucket="lab", Key=entry["Key"])["Body"].read()
    places |= files(tmp_path / "runs", ray_folder)
    assert any("records/train_cam-" in place for place in places)
    assert any(place.endswith("raylet.out") for place in places), "Ray's logs are elsewhere"
    assert any("/logs/train_cam-" in place for place in places)
    assert any("/tracking/mlflow/events.jsonl" in place for place in places)
    assert not leaks(places)
