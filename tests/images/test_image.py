"""The image as docker/build_and_check.py builds and checks it: real layers, real containers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tools import tool

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docker" / "build_and_check.py"
PATIENCE_S = 1800


@pytest.mark.slow
def test_what_is_run_in_the_image_is_what_the_default_sweep_is_now(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def printed(*more: str) -> str:
        command = [sys.executable, *script.PLAN[1:], *more, "--set", f"runs={tmp_path}"]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300).stdout

    assert script.PLANNED in printed()
    assert "small: 1 training, 1 variant\n" in printed(*script.small_sweep())


@pytest.mark.slow
@pytest.mark.integration
def test_the_image_is_built_and_holds_what_it_should():
    """The first time takes minutes; the base and the layer of dependencies are kept for the next."""
    if os.geteuid() != 0:
        pytest.skip("building without an engine needs root")
    for name in ("buildah", "podman", "debootstrap", "hadolint", "runc"):
        tool(name)
    command = [sys.executable, str(SCRIPT), "--folder", str(Path(tempfile.gettempdir()) / "aream-image")]
    if wheels := os.environ.get("PIP_FIND_LINKS"):
        command += ["--wheels", wheels]
    if certificates := os.environ.get("SSL_CERT_FILE"):
        command += ["--certificates", certificates]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
