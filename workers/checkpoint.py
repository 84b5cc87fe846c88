"""The file a killed stage continues from: replaced as a whole, checked when read, never executed.

It lies in the store, so that a stage can go on on another machine; while the store is away, on this one.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from aream.errors import AreamError
from workers.artifacts.record import check_key
from workers.artifacts.storages.file import FolderStorage
from workers.artifacts.storages.protocol import ObjectStorage

log = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""Seconds that a training waits for an unreachable store before it keeps its checkpoint on this machine only."""
NUMBER_BYTES = 8


class NoCheckpoint:
    """Saves nothing; for a stage that is run once, apart from the store."""

    def save(self, state: dict[str, Any]) -> None:
        return

    def load(self) -> dict[str, Any] | None:
        return None


class CheckpointFile:
    """A sha256 digest, a number that grows with every save, and what ``torch.save`` wrote."""

    def __init__(
        self, storage: ObjectStorage, key: str, scratch: Path, others: Callable[[], bool] = lambda: False
    ) -> None:
        """``others``: whether another process computes the stage by now, whose checkpoint it then is."""
        self.others = others
        self.storage, self.here, self.name = storage, FolderStorage(scratch), checkpoint_name(key)
        self.places = [storage] if storage.uri == self.here.uri else [storage, self.here]
        self.number = 0

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        if self.others():
            return
        self.number += 1
        buffer = io.BytesIO()
        buffer.write(self.number.to_bytes(NUMBER_BYTES, "big"))
        torch.save(state, buffer)
        content = hashlib.sha256(buffer.getbuffer()).digest() + buffer.getvalue()
        try:
            self.storage.with_patience(PATIENCE_S).write(self.name, content)
        except AreamError as error:
            if len(self.places) == 1:
                raise
            log.warning("the checkpoint stays on this machine: %s", error)
            self.here.write(self.name, content)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none that can be trusted (the stage then starts anew)."""
        last: tuple[int, bytes] = (0, b"")
        for storage in self.places:
            try:
                content = storage.read(self.name)
            except FileNotFoundError:
                continue
            number = self._number(content, storage.uri)
            if number > last[0]:
                last = number, content[32 + NUMBER_BYTES :]
        self.number, payload = last
        if not payload:
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            log.warning("checkpoint %s cannot be read (%s); the stage starts from its beginning", self.name, error)
            return None
        return state

    def discard(self) -> None:
        for storage in self.places:
            try:
                storage.delete(self.name)
            except AreamError as error:
                log.warning("a checkpoint that nobody needs stays: %s", error)

    def _number(self, content: bytes, origin: str) -> int:
        """0 where the content is damaged."""
        if len(content) < 32 + NUMBER_BYTES or hashlib.sha256(content[32:]).digest() != content[:32]:
            log.warning("checkpoint %s in %s is damaged and is not used", self.name, origin)
            return 0
        return int.from_bytes(content[32 : 32 + NUMBER_BYTES], "big")


def checkpoint_name(key: str) -> str:
    return f"checkpoints/{check_key(key)}.pt"
