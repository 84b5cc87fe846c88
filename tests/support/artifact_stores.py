"""What tests put into stores, and opening one once more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from workers.artifacts.opening import open_store
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore

KEY = "train_cam-0123456789abcdef"


def record(key: str = KEY, **changes) -> ArtifactRecord:
    base = ArtifactRecord(
        key=key, stage=key.split("-")[0], version=1, config={"lr": 0.1}, fingerprints={"data": "ab"}, inputs={},
        metrics={"val/map": 0.5}, history=[{"epoch": 1.0}], seconds=1.5, created="2026-01-01T00:00:00+00:00",
        code="abc", host="here", versions={"torch": "2"},
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def fill(folder: Path, text: str = "hello") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir()
    (folder / "labels" / "a.png").write_bytes(text.encode())
    (folder / "labels" / "empty").write_bytes(b"")
    (folder / "curve.json").write_text("{}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reopened(store_uri: tuple[str, str | None], tmp_path: Path, machine: str = "here") -> ArtifactStore:
    """The store as another process, or with another ``machine`` another host, sees it."""
    uri, endpoint = store_uri
    return open_store(uri, tmp_path / machine / "artifacts", endpoint)
