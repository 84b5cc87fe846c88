"""What is known of an artifact: what made it, from what, and the digest of every file."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from aream.errors import ArtifactCorrupt, ConfigError

KEY_PATTERN = re.compile(r"[a-z0-9_]{1,64}-[0-9a-f]{12,64}")


def check_key(key: str) -> str:
    """Refuse anything that is not ``<stage>-<hex>``: keys become file names.

    Raises:
        ConfigError: another form.
    """
    if not KEY_PATTERN.fullmatch(key):
        raise ConfigError(f"artifact key {key!r}: need <stage>-<12 to 64 hex digits>, such as train_cam-0123456789ab")
    return key


@dataclass(frozen=True)
class FileEntry:
    path: str
    """Relative, with forward slashes."""
    size: int
    sha256: str


@dataclass(frozen=True)
class ArtifactRecord:
    key: str
    stage: str
    version: int
    config: dict[str, Any]
    """Canonical form of what the stage read."""
    fingerprints: dict[str, str]
    inputs: dict[str, str]
    """Input name -> key of the artifact."""
    metrics: dict[str, float]
    history: list[dict[str, float]]
    """One row an epoch, as the stage reported them."""
    seconds: float
    created: str
    """UTC, ISO 8601."""
    code: str
    host: str
    versions: dict[str, str]
    files: tuple[FileEntry, ...] = field(default=())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, origin: str) -> ArtifactRecord:
        """Read a record.

        Raises:
            ArtifactCorrupt: not JSON, other fields or types, or a path that leaves the artifact.
        """
        try:
            content = json.loads(text)
            expected = {f.name for f in dataclasses.fields(cls)}
            if not isinstance(content, dict) or set(content) != expected:
                raise ValueError(f"need exactly the fields {sorted(expected)}")
            content["files"] = tuple(_entry(entry) for entry in content["files"])
            for name, kind in (("config", dict), ("inputs", dict), ("metrics", dict), ("history", list)):
                if not isinstance(content[name], kind):
                    raise ValueError(f"{name} must be a {kind.__name__}")
            check_key(content["key"])
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactCorrupt(f"{origin}: not an artifact record: {error}") from error
        return cls(**content)


def _entry(content: dict[str, Any]) -> FileEntry:
    entry = FileEntry(**content)
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or "\0" in entry.path or not path.parts:
        raise ValueError(f"the file {entry.path!r} lies outside the artifact")
    return entry
