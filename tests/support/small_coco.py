"""A small folder of COCO 2014 in any of the layouts that people have: noise, and masks that agree with the labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 16)
CLASSES = {
    "COCO_train2014_000000000009": (45, 49, 50),
    "COCO_train2014_000000000025": (0, 79),
    "COCO_train2014_000000000030": (),
    "COCO_val2014_000000000042": (16,),
    "COCO_val2014_000000000073": (71, 3),
    "COCO_val2014_000000000074": (),
}
"""0-based classes of each image; two images have no object."""
TRAIN = [name for name in CLASSES if "train" in name]
VAL = [name for name in CLASSES if "val" in name]


def one_hot(classes) -> np.ndarray:
    labels = np.zeros(80, dtype=np.float32)
    labels[list(classes)] = 1
    return labels


def mask_of(classes, number=lambda k: k + 1) -> np.ndarray:
    """Background, a column a class, and a column to ignore."""
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:, -1] = 255
    for column, k in enumerate(classes):
        mask[:, column + 1] = number(k)
    return mask


def write_coco(
    root: Path,
    images: str = "{}2014",
    masks: str = "SegmentationClass/{}2014",
    number=lambda k: k + 1,
    mask_name=lambda name: name,
    lists: bool = True,
) -> Path:
    """``images`` and ``masks`` are the folders of a part, ``{}`` being train or val; lists carry the labels."""
    rng = np.random.default_rng(0)
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (root / images.format(part)).mkdir(parents=True)
        (root / masks.format(part)).mkdir(parents=True)
        for name in ids:
            pixels = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / images.format(part) / f"{name}.jpg")
            mask = Image.fromarray(mask_of(CLASSES[name], number))
            mask.save(root / masks.format(part) / f"{mask_name(name)}.png")
        if lists:
            lines = [" ".join([name, *map(str, CLASSES[name])]) for name in ids]
            (root / f"{part}.txt").write_text("\n".join(lines))
    return root
