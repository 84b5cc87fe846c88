"""The file a killed stage continues from: replaced atomically, checked when read, never executed."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)


class CheckpointFile:
    """A sha256 digest followed by what ``torch.save`` wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                file.write(hashlib.sha256(buffer.getbuffer()).digest())
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        finally:
            beside.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none that can be trusted (the stage then starts anew)."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, payload = content[:32], content[32:]
        if hashlib.sha256(payload).digest() != digest:
            log.warning("checkpoint %s is damaged; the stage starts from its beginning", self.path)
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            log.warning("checkpoint %s cannot be read (%s); the stage starts from its beginning", self.path, error)
            return None
        return state

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
