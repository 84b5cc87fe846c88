"""One side of the store benchmark, in a process of its own: time and peak memory are of the transfer alone.

    python -m benchmarks.stored_labels SIDE URI FOLDER WORK

SIDE is store (ours), mlflow or objects (one put a file); FOLDER holds the files, which come back in WORK/back.
Prints ``{"put": s, "get": s, "peak": MB}``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

KEY = "pseudo_label-0123456789abcdef"
OBJECT_THREADS = 4


def store(uri: str, folder: Path, work: Path) -> dict[str, float]:
    """A stage writes into the store's staging folder, so that is where the files are."""
    from workers.artifacts.opening import open_store
    from workers.artifacts.record import ArtifactRecord
    from workers.artifacts.store import ArtifactStore

    endpoint = os.environ.get("MLFLOW_S3_ENDPOINT_URL") if uri.startswith("s3:") else None
    here = open_store(uri, work / "here" / "artifacts", endpoint)
    there = ArtifactStore(here.storage, work / "there")
    staged = here.staging()
    for file in folder.iterdir():
        shutil.copyfile(file, staged / file.name)
    record = ArtifactRecord(
        key=KEY, stage="pseudo_label", version=1, config={}, fingerprints={}, inputs={}, metrics={}, history=[],
        seconds=1.0, created="2026-01-01T00:00:00+00:00", code="", host="", versions={},
    )  # fmt: skip
    here.has(KEY)
    put = _seconds(lambda: here.put(KEY, staged, record))
    get = _seconds(lambda: there.get(KEY).rename(work / "back"))
    if "torch" in sys.modules:
        raise RuntimeError("the store imports torch")
    return {"put": put, "get": get}


def mlflow(uri: str, folder: Path, work: Path) -> dict[str, float]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{work}/mlflow.db")
    run = client.create_run(client.create_experiment("labels", artifact_location=uri)).info.run_id
    client.log_text(run, "", "before/the/clock.txt")
    put = _seconds(lambda: client.log_artifacts(run, str(folder), "labels"))
    if uri.startswith("s3:"):  # minutes, for a comparison that the folder shows as well
        return {"put": put}
    (work / "back").mkdir()
    get = _seconds(lambda: client.download_artifacts(run, "labels", str(work / "back")))
    return {"put": put, "get": get}


def objects(uri: str, folder: Path, work: Path) -> dict[str, float]:
    import boto3
    from botocore.config import Config

    options = Config(max_pool_connections=OBJECT_THREADS)
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=options)
    parts = urlsplit(uri)

    def put_one(file: Path) -> None:
        client.put_object(Bucket=parts.netloc, Key=f"{parts.path.strip('/')}/{file.name}", Body=file.read_bytes())

    def put_all() -> None:
        with ThreadPoolExecutor(OBJECT_THREADS) as pool:
            list(pool.map(put_one, folder.iterdir()))

    return {"put": _seconds(put_all)}


def _seconds(work: Callable[[], object]) -> float:
    os.sync()
    started = time.monotonic()
    work()
    return time.monotonic() - started


if __name__ == "__main__":
    side, uri, folder, work = sys.argv[1:]
    found = {"store": store, "mlflow": mlflow, "objects": objects}[side](uri, Path(folder), Path(work))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform == "linux" else 1e6)
    print(json.dumps({**found, "peak": peak}))
