"""The benchmark of planning and driving: a real driver on a simulated cluster ends its sweep."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.simulation import PAIRS, ROOT, SECONDS, STAGES_A_TRIAL

pytestmark = pytest.mark.integration

GPUS, ROUNDS = 10, 5
"""42 trials on 10 GPUs take five rounds."""


def test_the_smallest_sweep_is_simulated_to_its_end():
    command = [sys.executable, "-m", "benchmarks.simulation", "--points", f"{GPUS}:{PAIRS * STAGES_A_TRIAL}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    row = json.loads(done.stdout)
    assert (row["trials"], row["stages"]) == (PAIRS, PAIRS * STAGES_A_TRIAL)
    trainings_s = ROUNDS * 12 * SECONDS["epoch"]
    assert trainings_s < row["shortest_s"] < row["sweep_s"]
    assert 0 <= row["slots_waited_percent"] <= row["overhead_percent"] < 100
    assert done.returncode == (0 if row["overhead_percent"] < 1 else 1)
