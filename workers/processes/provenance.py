"""Identify the code that made a result."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "timm", "numpy", "ray", "mlflow", "optuna")


@functools.cache
def code_revision() -> str:
    """Return the revision of this code, as exactly as it is known.

    In a git checkout the commit, with ``-dirty`` where files differ from it. In an image, what its build was told
    (docker/Dockerfile leaves it in workers/). Anywhere else the package's version.
    """
    baked = PACKAGE / "REVISION"
    if baked.is_file():
        return baked.read_text(encoding="utf-8").strip()
    commit = _commit_of(PACKAGE.parent)
    return commit or f"version {metadata.version('aream-sweep')}"


@functools.cache
def library_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in LIBRARIES}


def _commit_of(root: Path) -> str | None:
    """None where there is no git, no checkout, or ``root`` lies inside somebody else's."""
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")) != root:
            return None
        commit = _git(root, "rev-parse", "HEAD")
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}{'-dirty' if dirty else ''}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


PACKAGES = ("aream", "workers", "orchestrator")


@functools.cache
def source_digest() -> str:
    """Digest of the text of all our modules: 64 hex digits."""
    digest, root = hashlib.sha256(), PACKAGE.parent
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
