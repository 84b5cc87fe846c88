"""A dataset whose images and masks are files: reading them, and looking at them whole."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from aream.data.files import read_bounded
from aream.data.images import image_size, read_image


class StoredImages(ABC):
    """What :class:`aream.data.dataset.Dataset` asks of pixels, given where the files lie and what masks hold.

    A subclass sets ``splits`` and calls :meth:`take_labels`.
    """

    class_names: Sequence[str]
    splits: dict[str, list[str]]
    _rows: Mapping[str, int]
    _labels: UInt8[np.ndarray, "n c"]

    @abstractmethod
    def image_path(self, image_id: str) -> Path: ...

    @abstractmethod
    def mask_path(self, image_id: str) -> Path | None:
        """Return where the image's mask would be; None: nowhere."""

    @abstractmethod
    def class_ids(self, path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
        """Return the ids of a mask, read already.

        Raises:
            DataError: it does not decode, or shows what stands for no class.
        """

    def identity_of(self, content: bytes, mask: UInt8[np.ndarray, "h w"]) -> bytes:
        """Digest of a mask: of its file."""
        return hashlib.sha256(content).digest()

    def ids(self, split: str) -> Sequence[str]:
        return self.splits[split]

    def image(self, image_id: str) -> Image.Image:
        return read_image(self.image_path(image_id))

    def labels(self, image_id: str) -> Float32[np.ndarray, " c"]:
        return self._labels[self._rows[image_id]].astype(np.float32)

    def mask(self, image_id: str) -> UInt8[np.ndarray, "h w"] | None:
        path = self.mask_path(image_id)
        return None if path is None or not _present(path) else self.class_ids(path, read_bounded(path))

    def look_at_image(self, image_id: str) -> tuple[tuple[int, int], bytes]:
        path = self.image_path(image_id)
        content = read_bounded(path)
        return image_size(path, content), hashlib.sha256(content).digest()

    def look_at_mask(self, image_id: str) -> tuple[UInt8[np.ndarray, "h w"], bytes] | None:
        path = self.mask_path(image_id)
        if path is None or not _present(path):
            return None
        content = read_bounded(path)
        mask = self.class_ids(path, content)
        return mask, self.identity_of(content, mask)

    def take_labels(self, table: Mapping[str, Float32[np.ndarray, " c"]]) -> None:
        """Keep the labels of images, as a byte a class."""
        self._rows = {image_id: row for row, image_id in enumerate(table)}
        self._labels = np.zeros((len(table), len(self.class_names)), dtype=np.uint8)
        for row, vector in enumerate(table.values()):
            self._labels[row] = vector


def _present(path: Path) -> bool:
    """A link that leads nowhere is there, and wrong."""
    return path.exists() or path.is_symlink()
