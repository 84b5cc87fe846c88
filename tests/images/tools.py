"""Programs that some of these tests need."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """Beside this Python or on the PATH."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def compose() -> str:
    """podman-compose, which asks podman's version before anything else."""
    tool("podman")
    return tool("podman-compose")
