"""Compiled blocks: no break in their graphs, the same numbers, the same names of weights, of every kind of host, and
the same code whatever the process has seen before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_transformers import FAMILIES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_same_numbers_without_a_break():
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-m", "compiled_hosts"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["host"] for each in found} == {"mctformer_v2", "conformer", "shared_mass", *FAMILIES}
    for each in found:
        assert each["difference"] < 1e-4, each
        assert each["breaks"] == 0, each
        assert 1 <= each["graphs"] <= 3 * each["blocks"], each
        assert each["blocks"] == each["layers"], each
        assert each["names"], each
        assert each["whatever_came_before"], each
