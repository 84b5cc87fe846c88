"""Opening a store of the tests once more."""

from __future__ import annotations

from pathlib import Path

from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore


def reopened(store_uri: tuple[str, str | None], tmp_path: Path, machine: str = "here") -> ArtifactStore:
    """The store as another process, or with another ``machine`` another host, sees it."""
    uri, endpoint = store_uri
    return open_store(uri, tmp_path / machine / "artifacts", endpoint)
