"""Open a store by its URI."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aream import discover
from aream.errors import ConfigError
from workers.artifacts import storages
from workers.artifacts.blobs import BLOBS
from workers.artifacts.holds import HOLDS
from workers.artifacts.leases import LEASES
from workers.artifacts.record import RECORDS
from workers.artifacts.storages.file import TEMPORARY
from workers.artifacts.storages.protocol import ObjectStorage
from workers.artifacts.store import ArtifactStore
from workers.artifacts.waits import USUAL, Waits

VIEW_BYTES = "AREAM_VIEW_BYTES"
MAX_VIEW_BYTES = 100_000_000_000


def open_store(
    uri: str | None, default: Path, endpoint: str | None = None, after: float | None = None, waits: Waits = USUAL
) -> ArtifactStore:
    """The store at a folder or URI; None: the folder ``default``.

    A store elsewhere keeps its views in a folder beside ``default``, of at most ``AREAM_VIEW_BYTES`` (100 GB); one that
    this user may only read, in a temporary folder.

    Args:
        endpoint: of a server that speaks S3; None: boto3's own setting.
        after: a record not written after this time of the storage's clock does not count.
        waits: for that server.

    Raises:
        ConfigError: a URI that no storage understands, or an invalid setting of this node.
    """
    text = str(default) if uri is None else uri
    if "\0" in text:
        raise ConfigError("store.uri: holds a NUL character")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ConfigError(f"store.uri: not a URI: {error}") from error
    if is_folder(text):
        try:
            folder = Path(text).expanduser().absolute()
        except RuntimeError as error:
            raise ConfigError(f"store.uri: given {text!r}; there is no such user's home folder") from error
        parts = urlsplit(folder.as_uri())
    if parts.scheme not in discover.names(storages):
        allowed = ", ".join(f"{name}://" for name in discover.names(storages))
        given = text.partition("://")[0]
        raise ConfigError(f"store.uri: given {given}://...; allowed are a folder, {allowed}")
    storage: Any = discover.load(storages, parts.scheme).open_storage(parts, endpoint, waits)
    root: Path | None = getattr(storage, "root", None)
    if root is not None:  # its views are parts of the store, which ``gc`` looks after
        scratch = _writable(root)
        return ArtifactStore(storage, scratch, after=after, ready=None if scratch == root else root)
    own = hashlib.sha256(storage.uri.encode()).hexdigest()[:16]
    return ArtifactStore(storage, _writable(default.parent / "cache" / own), _max_view_bytes(), after)


def _writable(folder: Path) -> Path:
    """The folder, or one of this process alone where somebody looks at what others may write."""
    there = next(each for each in (folder, *folder.parents) if os.path.exists(each))
    return folder if os.access(there, os.W_OK) else _own_folder()


@functools.cache
def _own_folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="aream-views-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def is_folder(text: str) -> bool:
    """True of a folder's path, whose name may have a colon too; else it is a URI."""
    return "://" not in text and not text.startswith("file:")


def was_used(storage: ObjectStorage) -> bool:
    """True if anything was ever stored, or a sweep planned, there."""
    root: Path | None = getattr(storage, "root", None)
    if root is not None and (root / TEMPORARY).is_dir():  # all that is written passes through it, and it stays
        return True
    return any(next(iter(storage.list(prefix)), None) for prefix in (RECORDS, BLOBS, HOLDS, LEASES))


def _max_view_bytes() -> int:
    given = os.environ.get(VIEW_BYTES, "")
    if given and (not given.isdecimal() or int(given) < 1):
        raise ConfigError(f"{VIEW_BYTES}: need a number of bytes, got {given!r}")
    return int(given) if given else MAX_VIEW_BYTES
