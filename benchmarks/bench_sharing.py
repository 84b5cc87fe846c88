"""An alphas x layers sweep: stages shared, against a plain Ray Tune script that trains every grid point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Result

ROOT = Path(__file__).resolve().parent.parent

WALL_TIME = True


def _timed(*command: str) -> tuple[float, str]:
    """Wall seconds and output of a command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    started = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - started, done.stdout


def _point(config: dict[str, object]) -> str:
    return json.dumps(config, sort_keys=True)


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        sweep = str(ROOT / "benchmarks" / "sharing.yaml")
        ours, _ = _timed("-m", "orchestrator.sweep", sweep, "--set", f"runs={folder}/runs")
        baseline, printed = _timed("-m", "benchmarks.plain_tune", f"{folder}/plain")
        summary = json.loads((Path(folder) / "runs" / "sharing" / "summary.json").read_text())
    found = {_point(entry["config"]): entry["metrics"]["pseudo/miou"] for entry in summary["ranking"]}
    expected = {_point(point["config"]): point["miou"] for point in json.loads(printed.splitlines()[-1])}
    difference = max(abs(found[key] - expected[key]) for key in expected)
    return [
        Result(
            name="sharing",
            unit="wall s",
            ours=ours,
            baseline=baseline,
            required=3,
            input=f"shapes, {len(expected)} grid points (4 alpha pairs x 6 layer subsets), 8 epochs, 7 of them warm-up",
            same=found.keys() == expected.keys() and difference < 1e-12,
            difference=f"mIoU differs by {difference:.1g} at most",
        )
    ]
