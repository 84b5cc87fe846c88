"""Where a worker's stages find images that were decoded before."""

from __future__ import annotations

from typing import Protocol

from aream.data.decoded import OwnImages, SharedImages
from workers.processes.memory_limits import usable_memory

SHARE = 0.18
"""Of the memory that this process may use, for images that it keeps for itself."""


class ImageStore(Protocol):
    def of(self, data: str) -> SharedImages | None:
        """Those of the dataset with a fingerprint; None: nothing keeps them."""

    def done(self) -> None:
        """A stage has ended: let others have what it decoded."""


class OwnStore:
    """Of this process, one dataset at a time."""

    def __init__(self) -> None:
        self.data, self.images = "", OwnImages(0)

    def of(self, data: str) -> SharedImages:
        if data != self.data:
            self.data, self.images = data, OwnImages(int(SHARE * usable_memory()))
        return self.images

    def done(self) -> None:
        return
