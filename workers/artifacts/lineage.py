"""Ancestors and descendants of an artifact."""

from __future__ import annotations

from collections.abc import Iterator

from aream.errors import ArtifactCorrupt, ArtifactNotFound
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.store import ArtifactStore


def ancestors(store: ArtifactStore, key: str) -> Iterator[tuple[int, str, str, bool]]:
    """(depth, name of the input, key, whether it is stored), each key once, nearest first."""
    seen = {key}
    level = [(name, parent) for name, parent in store.record(key).inputs.items()]
    depth = 1
    while level:
        following: list[tuple[str, str]] = []
        for name, parent in level:
            if parent in seen:
                continue
            seen.add(parent)
            stored = store.has(parent)
            yield depth, name, parent, stored
            if stored:
                following += store.record(parent).inputs.items()
        level, depth = following, depth + 1


def descendants(store: ArtifactStore, key: str) -> Iterator[tuple[int, str]]:
    """(depth, key) of all that was computed from an artifact, nearest first."""
    children: dict[str, list[str]] = {}
    for record in readable_records(store):
        for parent in record.inputs.values():
            children.setdefault(parent, []).append(record.key)
    seen, level, depth = {key}, children.get(key, []), 1
    while level:
        fresh = [child for child in dict.fromkeys(level) if child not in seen]
        seen |= set(fresh)
        for child in fresh:
            yield depth, child
        level, depth = [grandchild for child in fresh for grandchild in children.get(child, [])], depth + 1


def readable_records(store: ArtifactStore) -> Iterator[ArtifactRecord]:
    """All records but damaged ones, and those removed meanwhile."""
    for key in store.keys():
        try:
            yield store.record(key)
        except (ArtifactNotFound, ArtifactCorrupt):
            continue
