"""The notebook of the docs does what it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.integration
def test_every_cell_runs(tmp_path):
    """In a process of its own, as a kernel is: here another test has imported Ray already."""
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    program = [sys.executable, "-c", f"{code}\nassert len(found.table()) == 4\n"]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "alphas" / "report.html").is_file()
