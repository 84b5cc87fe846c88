"""The image as docker/build_and_check.py builds and checks it: real layers, real containers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tools import tool

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "build_and_check.py"
PATIENCE_S = 1800


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
