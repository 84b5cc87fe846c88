"""Whether two machines run the same code, however it was installed on each."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

PACKAGES = ("aream", "workers", "orchestrator")


@functools.cache
def source_digest() -> str:
    """Of the text of all our modules: 64 hex digits."""
    digest, root = hashlib.sha256(), Path(__file__).resolve().parent.parent
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
