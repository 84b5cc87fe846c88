"""Record of an artifact: the stage and inputs that made it, and the blob that lists its files."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aream.errors import ArtifactCorrupt, ArtifactNotFound, ConfigError
from workers.artifacts.storages.protocol import ObjectStorage

DIGEST = re.compile(r"[0-9a-f]{64}")
KINDS: dict[str, tuple[type, ...]] = {
    "key": (str,), "stage": (str,), "version": (int,), "config": (dict,), "fingerprints": (dict,), "inputs": (dict,),
    "metrics": (dict,), "history": (list,), "seconds": (float, int), "created": (str,), "code": (str,), "host": (str,),
    "versions": (dict,), "device": (str,), "source": (str,), "index": (str,), "files": (int,), "size": (int,),
}  # fmt: skip
RECORDS = "records/"
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
    device: str = ""
    """Device that computed it: kind, threads if they affect the result, and model."""
    source: str = ""
    """Digest of the code that the stage runs (``workers/stage_source.py``)."""
    index: str = ""
    """Digest of the blob that lists the files; filled in by the store."""
    files: int = 0
    size: int = 0
    """Bytes of all files."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, origin: str) -> ArtifactRecord:
        """Read a record.

        Raises:
            ArtifactCorrupt: not JSON, other fields or types, or a key that is none.
        """
        try:
            content = json.loads(text)
            expected = {f.name for f in dataclasses.fields(cls)}
            if not isinstance(content, dict) or set(content) != expected:
                raise ValueError(f"need exactly the fields {sorted(expected)}")
            for name, kind in KINDS.items():
                if type(content[name]) not in kind:
                    raise ValueError(f"{name} must be {' or '.join(k.__name__ for k in kind)}")
            if not DIGEST.fullmatch(content["index"]) or content["files"] < 0 or content["size"] < 0:
                raise ValueError("index must be a sha256 in hexadecimal, files and size 0 or more")
            for name in content["inputs"].values():
                check_key(name)
            check_key(content["key"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ArtifactCorrupt(f"{origin}: not an artifact record: {error}") from error
        return cls(**content)


def record_name(key: str) -> str:
    return f"{RECORDS}{check_key(key)}.json"


def read_record(storage: ObjectStorage, key: str) -> ArtifactRecord:
    """Raises ``ArtifactNotFound``, or ``ArtifactCorrupt`` where the record cannot be read."""
    name = record_name(key)
    try:
        text = storage.read(name).decode()
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"no artifact {key} in {storage.uri}") from error
    except UnicodeDecodeError as error:
        raise ArtifactCorrupt(f"{storage.uri}/{name}: not an artifact record: {error}") from error
    record = ArtifactRecord.from_json(text, f"{storage.uri}/{name}")
    if record.key != key:
        raise ArtifactCorrupt(f"{storage.uri}/{name}: is the record of {record.key}")
    return record


def with_ancestors(storage: ObjectStorage, keys: Iterable[str], *, strict: bool) -> set[str]:
    """Keys, and those of all that they were computed from, as far as it is stored.

    Raises:
        ArtifactCorrupt: with ``strict``, a record cannot be read, so that what it was computed from is not known.
    """
    found: set[str] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key in found or not KEY_PATTERN.fullmatch(key):
            continue
        found.add(key)
        try:
            waiting += read_record(storage, key).inputs.values()
        except ArtifactNotFound:  # not computed yet
            continue
        except ArtifactCorrupt:
            if strict:
                raise
    return found
