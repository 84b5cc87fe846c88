"""A small folder in VOC's layout: noise with random masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 64)


def write_voc(root: Path, train: int = 12, val: int = 4, seed: int = 0) -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    splits = {"train": [f"2007_{k:06d}" for k in range(train)], "val": [f"2009_{k:06d}" for k in range(val)]}
    labels = {}
    for split, ids in splits.items():
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids))
        for index, identifier in enumerate(ids):
            write_image(root, identifier, rng)
            mask = rng.choice([0, 1 + index % 2, 255], SIZE).astype(np.uint8)
            Image.fromarray(mask).save(root / f"SegmentationClass/{identifier}.png")
            labels[identifier] = np.eye(20, dtype=np.float32)[index % 2]
    np.save(root / "cls_labels.npy", labels)  # type: ignore[arg-type]
    return root


def write_image(root: Path, identifier: str, rng: np.random.Generator) -> None:
    Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(root / f"JPEGImages/{identifier}.jpg")
