"""The artifact store's tests and benchmark against a real S3 server: Ceph's object gateway, started and stopped here.

    python -m benchmarks.radosgw

Writes ``benchmarks/results/radosgw.json``; exit status 1 where a test fails or a required ratio is missed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.bench_store import ROOT, draw_labels, new_bucket, on_s3
from benchmarks.measure import RESULTS
from workers.artifacts.storages.s3 import S3Storage

SCRIPT = ROOT / "tests" / "radosgw.sh"
PORT = 9820


def main() -> int:
    # A server is stopped also where somebody stops this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as work, server(Path(work) / "server") as endpoint:
        tests, passed = _tests()
        rows, _ = on_s3(endpoint, "radosgw", draw_labels(Path(work) / "labels"), Path(work))
        bucket = new_bucket(endpoint)
        conditional = S3Storage(bucket, "probe", endpoint).conditional()
    version = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "server": version,
        "conditional puts honoured": conditional,
        "tests": tests,
        "benchmark": [asdict(row) for row in rows],
    }
    RESULTS.joinpath("radosgw.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({**result, "benchmark": {row.name: row.ratio for row in rows}}, indent=1))
    return 0 if passed and all(row.passed for row in rows) else 1


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Its endpoint; its address and keys are in this process's environment meanwhile."""
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([SCRIPT, str(folder), str(PORT)], check=True, env=environment)
    try:
        exports = re.findall(
            r"^export (\w+)=(\S+)$", (folder / "environment").read_text(encoding="utf-8"), re.MULTILINE
        )
        os.environ.update(exports)
        yield os.environ["AREAM_TEST_S3"]
    finally:
        subprocess.run([SCRIPT, "stop", str(folder)], check=True)


def _tests() -> tuple[dict[str, int], bool]:
    """How many tests had which outcome."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/workers/artifacts",
        "tests/workers/staging",
        "tests/contracts/test_storages.py",
        "-m",
        "slow or not slow",
        "-q",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout, done.stderr, flush=True)
    summary = done.stdout.splitlines()[-1]
    return {outcome: int(count) for count, outcome in re.findall(r"(\d+) ([a-z]+)", summary)}, done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
