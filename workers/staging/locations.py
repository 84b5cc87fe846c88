"""Find data on this machine, so that one sweep file serves a laptop and nodes that keep their data elsewhere.

A location in a sweep file is a path or the URI of something in a store. On a node whose environment says

    AREAM_PATH_MAP=/data=/mnt/nvme/data:/weights=/opt/weights

a path that starts with ``/data`` lies under ``/mnt/nvme/data``: whole folder names, the longest match. A URI is
fetched once a node (``workers/staging/cache.py``). Neither changes an identity, which is that of the content.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from aream.config import EMBEDDED, PRETRAINED, is_config
from aream.errors import ConfigError
from workers.staging.cache import is_uri, staged

PATH_MAP = "AREAM_PATH_MAP"
T = TypeVar("T")


def local_path(location: str) -> str:
    """The path on this machine of what a location names; fetches a URI that is not here yet.

    Raises:
        AreamError: an invalid path map; a URI whose content cannot be had.
    """
    if is_uri(location):
        return str(staged(location))
    path = Path(location)
    for start, target in _path_map(os.environ.get(PATH_MAP, "")):
        if path.is_relative_to(start):
            return str(target / path.relative_to(start))
    return location


def localised(value: T) -> T:
    """A copy of built configuration whose locations are paths of this machine; raises as ``local_path`` does."""
    return with_locations(value, lambda key, location: local_path(location))


def with_locations(value: Any, change: Callable[[str, str], str]) -> Any:
    """A copy of built configuration, every location replaced by ``change(name of its field, location)``."""
    if isinstance(value, tuple):
        return tuple(with_locations(item, change) for item in value)
    if not is_config(value):
        return value
    changed = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if _is_location(field, item):
            changed[field.name] = change(field.name, item)
        else:
            changed[field.name] = with_locations(item, change)
    return dataclasses.replace(value, **changed)


def locations(value: Any) -> Iterator[str]:
    """Every location that built configuration names."""
    if isinstance(value, tuple):
        for item in value:
            yield from locations(item)
    elif is_config(value):
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            if _is_location(field, item):
                yield item
            else:
                yield from locations(item)


def _is_location(field: dataclasses.Field[Any], item: object) -> bool:
    return bool(field.metadata.get("location")) and isinstance(item, str) and item not in (PRETRAINED, EMBEDDED)


@functools.cache
def _path_map(text: str) -> list[tuple[Path, Path]]:
    """Longest first."""
    pairs = []
    for entry in filter(None, text.split(":")):
        start, equals, target = entry.partition("=")
        if not (equals and start.startswith("/") and target.startswith("/")):
            raise ConfigError(f"{PATH_MAP}: given {entry!r}; need /FROM=/TO, several with : between")
        pairs.append((Path(start), Path(target)))
    return sorted(pairs, key=lambda pair: len(pair[0].parts), reverse=True)
