"""200 trivial trials over two Ray nodes with four fake GPUs each, a quarter of one a trial: 32 slots on one machine.

The sweep, its driver, Tune, the store, MLflow on sqlite and a process a slot are real. Not real are the GPUs, a
resource of Ray's by another name, and most of a trial's length: it waits for its images (``slow_disk/``), or two cores
could not carry 32 trials at once. A slot is busy from the first line of a trial's log to the last, as its worker wrote
them: what lies between two trials counts as idle, the driver's part and the worker's.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.measure import Kind, Result
from benchmarks.sides import ROOT

KIND: Kind = "sweep"
TRIALS, NODES, GPUS, SHARE = 200, 2, 4, 0.25
SLOTS = int(NODES * GPUS / SHARE)
BUSY = 0.90
LAST = 150
ALLOWED_MB = 8.0
"""That the driver may grow over the last trials."""
SLOW_DISK = ROOT / "benchmarks" / "slow_disk"


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{SLOW_DISK}{os.pathsep}{ROOT}",
            "MLFLOW_TRACKING_URI": "",
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "disabled",
            "RAY_raylet_start_wait_time_s": "180",
        }
        os.environ.update(environment)
        megabytes = _run(Path(folder), environment)
        runs = Path(folder) / "runs"
        spans = _spans(runs / "slots" / "logs")
        return [_slots(spans, _tracked(runs / "mlflow.db")), _memory(megabytes)]


def _run(folder: Path, environment: Mapping[str, str]) -> list[float]:
    """The sweep on the cluster; returns the driver's resident megabytes at the end of each trial."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": int(SLOTS / NODES), "resources": {"fake_gpu": GPUS}}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False}, shutdown_at_exit=False)
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        rates = ", ".join(f"{(number + 1) * 1e-5:.1e}" for number in range(TRIALS // 4))
        sets = [f"runs={folder}/runs", f"axes={{train.epochs: [4, 3, 2, 1], train.lr: [{rates}]}}"]
        command = [sys.executable, "-u", "-m", "orchestrator.sweep", str(ROOT / "benchmarks" / "slots.yaml")]
        command += [f"--address={cluster.address}", *itertools.chain(*(("--set", value) for value in sets))]
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as problems,
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=problems, text=True
            ) as process,
        ):
            assert process.stdout is not None
            driver = psutil.Process(process.pid)
            ends = (line for line in process.stdout if " trial done " in line)
            megabytes = [driver.memory_info().rss / 2**20 for _ in ends]
            if process.wait():
                problems.seek(0)
                raise RuntimeError(problems.read())
        return megabytes
    finally:
        cluster.shutdown()


def _spans(logs: Path) -> list[tuple[float, float]]:
    """When each trial's worker wrote its first and its last line."""
    spans = []
    for path in logs.glob("train_cam-*.log"):
        moments = [datetime.fromisoformat(json.loads(line)["time"]).timestamp() for line in path.open(encoding="utf-8")]
        spans.append((moments[0], moments[-1]))
    return sorted(spans)


def _tracked(database: Path) -> bool:
    """Whether MLflow has every trial, ended well, with its metric."""
    query = """SELECT COUNT(DISTINCT runs.run_uuid) FROM runs
        JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'aream.kind' AND tags.value = 'trial'
        JOIN latest_metrics ON latest_metrics.run_uuid = runs.run_uuid AND latest_metrics.key = 'pseudo/miou'
        WHERE runs.status = 'FINISHED'"""
    with sqlite3.connect(database) as connection:
        (found,) = connection.execute(query).fetchone()
    return int(found) == TRIALS


def _slots(spans: list[tuple[float, float]], tracked: bool) -> Result:
    first, last = spans[0][0], max(end for _, end in spans)
    busy = sum(end - start for start, end in spans)
    at_once = itertools.accumulate(
        change for _, change in sorted([(s, 1) for s, _ in spans] + [(e, -1) for _, e in spans])
    )
    slot_s = SLOTS * (last - first)
    return Result(
        "slots",
        "slot seconds given",
        ours=round(slot_s, 1),
        baseline=round(busy, 1),
        required=BUSY,
        input=f"{len(spans)} trials of {busy / len(spans):.0f} s, {NODES} nodes x {GPUS} fake GPUs at {SHARE}",
        same=tracked and len(spans) == TRIALS,
        difference=f"{max(at_once)} of {SLOTS} at once in {last - first:.0f} s; all in MLflow: {tracked}",
    )


def _memory(megabytes: list[float]) -> Result:
    last = np.array(megabytes[-LAST:])
    slope = float(np.polyfit(np.arange(len(last)), last, 1)[0])
    growth = slope * LAST
    return Result(
        "slots driver memory",
        f"MB over the last {LAST} trials",
        ours=round(growth, 2),
        baseline=0.0,
        required=0,
        input=f"resident memory at the end of each of {len(megabytes)} trials; a line through the last {LAST}",
        same=growth <= ALLOWED_MB,
        difference=f"at most {ALLOWED_MB:g} MB allowed; {last[-1]:.0f} MB at the end",
    )
