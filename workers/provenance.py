"""Which code made a result."""

from __future__ import annotations

import functools
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "timm", "numpy", "ray", "mlflow", "optuna")


@functools.cache
def code_revision() -> str:
    """Git commit, with ``-dirty`` where files differ from it; the package's version outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return f"version {metadata.version('aream-sweep')}"
    return f"{commit}{'-dirty' if dirty else ''}"


@functools.cache
def library_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()
