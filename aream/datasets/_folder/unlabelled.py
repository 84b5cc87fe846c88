"""Images of which nothing is known yet: a folder to infer on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aream.data.findings import SPLITS, Findings
from aream.datasets._folder.config import FOLDERS, Config
from aream.datasets._folder.pairs import find_pairs
from aream.datasets._stored_images import StoredImages
from aream.errors import DataError


class Unlabelled(StoredImages):
    """Every image is in both splits and has no mask; labels are what :meth:`take_labels` was given."""

    def __init__(self, root: Path, class_names: Sequence[str]) -> None:
        """
        Raises:
            DataError: no such folder, no image in it, or names that cannot be told apart.
        """
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        found = Findings(strict=True)
        self.root, self.class_names = root, class_names
        self._pairs = find_pairs(root, Config(root=str(root), labels=FOLDERS), found)
        found.settle()
        self.left_out = dict(found.left_out)
        self.splits = {split: list(self._pairs.images) for split in SPLITS}
        self.take_labels({one: np.zeros(len(class_names), dtype=np.float32) for one in self._pairs.images})

    @property
    def scored_classes(self) -> Sequence[int]:
        return range(len(self.class_names) + 1)

    def image_path(self, image_id: str) -> Path:
        return self.root / self._pairs.images[image_id]

    def mask_path(self, image_id: str) -> Path | None:
        return None

    def class_ids(self, path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
        raise DataError(f"{path}: these images have no masks")
