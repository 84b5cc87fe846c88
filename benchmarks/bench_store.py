"""10,582 label PNGs put into the artifact store, and got back, against MLflow's artifacts and one object a file."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import boto3
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.measure import Kind, Result
from workers.files.labels import write_labels

KIND: Kind = "wall"
ROOT = Path(__file__).resolve().parent.parent
LABELS = 10_582
"""Images of VOC's augmented training list."""
ON_MOTO = LABELS // 12
"""Of them on S3 against others, which need minutes there: each costs them the same."""
MANY = 100_000
REPEATS = 3
IGNORE = 255


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        labels = draw_labels(work / "labels")
        folder_rows, folder_peak = in_a_folder(labels, work)
        with moto_server() as endpoint:
            _, s3_peak = _transfer("store", _in_new_bucket(endpoint), labels, work, endpoint)
            s3_rows, _ = on_s3(endpoint, "moto_server", _some(labels, work / "some"), work)
            many = _many_files(work / "many")
            _, many_peak = _transfer("store", _in_new_bucket(endpoint), many, work, endpoint)
    memory = [
        Result(
            name="store memory",
            unit="MB peak RSS",
            ours=max(folder_peak, s3_peak),
            baseline=300,
            required=1,
            input=f"a process that puts {LABELS:,} label PNGs and gets them back; the baseline is the limit",
        ),
        Result(
            name="store memory 100000",
            unit="MB peak RSS",
            ours=many_peak,
            baseline=s3_peak,
            required=0.8,
            input=f"put and got from S3: {MANY:,} files of 2 to 5 KB against {LABELS:,}; at most 1.25 times as much",
        ),
    ]
    return [*folder_rows, *s3_rows, *memory]


def _some(labels: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in sorted(labels.iterdir())[:ON_MOTO]:
        os.link(path, folder / path.name)
    return folder


def in_a_folder(labels: Path, work: Path) -> tuple[list[Result], float]:
    """Rows, and the store's peak memory."""
    ours, theirs, peak = [], [], 0.0
    for turn in range(REPEATS):
        found, peak = _transfer("store", (work / f"store{turn}").as_uri(), labels, work)
        ours.append(found)
        theirs.append(_transfer("mlflow", (work / f"mlflow{turn}").as_uri(), labels, work)[0])
    place = f"local folder, {_described(labels)}, median of {REPEATS}"
    return _rows("store folder", ours, theirs, place), peak


def on_s3(endpoint: str, server: str, labels: Path, work: Path) -> tuple[list[Result], float]:
    """Rows, and the store's peak memory."""
    ours, peak = _transfer("store", _in_new_bucket(endpoint), labels, work, endpoint)
    mlflow, _ = _transfer("mlflow", _in_new_bucket(endpoint), labels, work, endpoint)
    objects, _ = _transfer("objects", _in_new_bucket(endpoint), labels, work, endpoint)
    place = f"{server} on this machine, {_described(labels)}"
    rows = _rows("store s3", [ours], [mlflow], place)
    one_each = Result(
        name="store s3 objects",
        unit="wall s",
        ours=ours["put"],
        baseline=objects["put"],
        required=3,
        input=f"put, one put_object a file in 4 threads; {place}",
    )
    return [*rows, one_each], peak


def _rows(name: str, ours: list[dict[str, float]], theirs: list[dict[str, float]], place: str) -> list[Result]:
    def median(side: list[dict[str, float]], action: str) -> float:
        return statistics.median(times[action] for times in side)

    calls = {
        "put": ("put against MLflow's log_artifacts", 3.0),
        "get": ("get against MLflow's download_artifacts", 1.0),
    }
    return [
        Result(
            name=name if action == "put" else f"{name} get",
            unit="wall s",
            ours=median(ours, action),
            baseline=median(theirs, action),
            required=required,
            input=f"{calls_compared}; {place}",
            same=all(times.get("same", True) for times in [*ours, *theirs]),
            difference="files equal byte for byte",
        )
        for action, (calls_compared, required) in calls.items()
        if action in theirs[0]
    ]


def _transfer(
    side: str, uri: str, files: Path, work: Path, endpoint: str | None = None
) -> tuple[dict[str, float], float]:
    """What one side took, with ``same``: whether the files came back as they were; and its peak memory in MB."""
    scratch = work / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "", **_s3_environment(endpoint)}
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    command = [sys.executable, "-m", "benchmarks.stored_labels", side, uri, str(files), str(scratch)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} failed:\n{done.stdout}\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if "get" in found:
        back = next(path for path in (scratch / "back" / "labels", scratch / "back") if path.is_dir())
        found["same"] = _equal(files, back)
    shutil.rmtree(scratch)
    return found, found.pop("peak")


def _equal(files: Path, back: Path) -> bool:
    names = sorted(os.listdir(files))
    return names == sorted(os.listdir(back)) and filecmp.cmpfiles(files, back, names, shallow=False)[0] == names


# Files


def draw_labels(folder: Path) -> Path:
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        list(pool.map(_draw, [folder] * LABELS, range(LABELS), chunksize=100))
    return folder


def _draw(folder: Path, number: int) -> None:
    """Some ragged blobs of a class each, with a border to ignore, as refined CAMs leave them."""
    generator = np.random.default_rng(number)
    image = Image.new("L", (500, 375))
    canvas = ImageDraw.Draw(image)
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    for _ in range(generator.integers(1, 5)):
        lobes, turn, size = generator.integers(2, 6), generator.uniform(0, 6), generator.uniform(40, 150)
        radius = size * (1 + 0.25 * np.sin(lobes * angle + turn)) + generator.normal(0, 2.5, len(angle))
        centre = generator.uniform((60, 60), (440, 315))
        outline = (centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)).ravel().tolist()
        canvas.polygon(outline, fill=int(generator.integers(1, 21)))
        canvas.line(outline + outline[:2], fill=IGNORE, width=int(generator.integers(2, 5)))
    write_labels(folder / f"2007_{number:06d}.png", np.asarray(image))


def _many_files(folder: Path) -> Path:
    folder.mkdir()
    generator = random.Random(0)
    for number in range(MANY):
        (folder / f"{number:06d}.png").write_bytes(generator.randbytes(generator.randrange(2000, 5000)))
    return folder


def _described(files: Path) -> str:
    sizes = [path.stat().st_size for path in files.iterdir()]
    return (
        f"{len(sizes):,} label PNGs 500x375, {statistics.median(sizes) / 1000:.1f} KB each, {sum(sizes) / 1e6:.0f} MB"
    )


# Servers


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """In a process of its own, so that its work counts alike for both sides."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait_for(endpoint)
        yield endpoint
    finally:
        server.terminate()
        server.wait()


def _wait_for(endpoint: str, patience_s: float = 60.0) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def new_bucket(endpoint: str) -> str:
    name = f"labels-{uuid.uuid4().hex[:12]}"
    keys = _s3_environment(endpoint)
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name=keys["AWS_DEFAULT_REGION"],
    ).create_bucket(Bucket=name)
    return name


def _in_new_bucket(endpoint: str) -> str:
    return f"s3://{new_bucket(endpoint)}/labels"


def _s3_environment(endpoint: str | None) -> dict[str, str]:
    if endpoint is None:
        return {}
    return {
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", "testing"),
        "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY", "testing"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
