"""From a URI to a store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aream import discover
from aream.errors import ConfigError
from workers.artifacts import storages
from workers.artifacts.store import ArtifactStore


def open_store(uri: str | None, default: Path, endpoint: str | None = None) -> ArtifactStore:
    """The store at a folder or URI; None: the folder ``default``.

    A store elsewhere keeps its views in a folder beside ``default``.

    Args:
        endpoint: of a server that speaks S3; None: boto3's own setting.

    Raises:
        ConfigError: a URI that no storage understands.
    """
    text = str(default) if uri is None else uri
    if "\0" in text:
        raise ConfigError("store.uri: holds a NUL character")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ConfigError(f"store.uri: not a URI: {error}") from error
    if not parts.scheme and "://" not in text:
        parts = urlsplit(Path(text).expanduser().absolute().as_uri())
    if parts.scheme not in discover.names(storages):
        allowed = ", ".join(f"{name}://" for name in discover.names(storages))
        given = text.partition("://")[0]
        raise ConfigError(f"store.uri: given {given}://...; allowed are a folder, {allowed}")
    storage: Any = discover.load(storages, parts.scheme).open_storage(parts, endpoint)
    own = hashlib.sha256(storage.uri.encode()).hexdigest()[:16]
    return ArtifactStore(storage, getattr(storage, "root", default.parent / "cache" / own))
