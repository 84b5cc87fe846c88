"""Creating an object once, on a server that would replace it: writers of one name put claims beside it.

The earliest claim by the server's clock writes; the others wait until it has, or has given up.
"""

from __future__ import annotations

import time
import uuid

from workers.artifacts.storages.protocol import ObjectStorage

SETTLE_S = 1.5
"""Seconds, more than a small put takes: after them every claim made in the same second is listed."""
LIFE_S = 60.0
"""A claim that much older than one's own, or watched for so long, was left by a writer that died."""


def create_by_claim(storage: ObjectStorage, name: str, content: bytes) -> bool:
    """Write an object that is not there; False where another writer was first, whose object is there by then."""
    claim = f"claims/{name}/{uuid.uuid4().hex}"
    first_seen: dict[str, float] = {}
    if storage.stat(name) is not None:
        return False
    storage.write(claim, b"")
    try:
        while True:
            time.sleep(SETTLE_S)
            now = time.monotonic()
            claims = sorted(storage.list(f"claims/{name}/"), key=lambda info: (int(info.modified), info.name))
            mine = next((info for info in claims if info.name == claim), None)
            if storage.stat(name) is not None:
                return False
            if mine is None:  # taken for that of a dead writer
                storage.write(claim, b"")
                continue
            ahead = [
                info
                for info in claims[: claims.index(mine)]
                if mine.modified - info.modified < LIFE_S and now - first_seen.setdefault(info.name, now) < LIFE_S
            ]
            if not ahead:
                storage.write(name, content)
                return True
    finally:
        storage.delete(claim)
