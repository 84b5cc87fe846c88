"""A folder in VOC's layout with as many images as wanted, where no photographs are at hand.

A few pictures are drawn, with the size, the detail and the masks of photographs, and lie under many names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = 20
QUALITY = 92
"""Of the JPEG files: with the noise below they are about as large as VOC's."""
NOISE = 12.0


def write_photos(root: Path, lists: Mapping[str, int], val: int, *, pictures: int, size: tuple[int, int]) -> None:
    """
    Args:
        lists: number of ids by the name of their list; the longer ones begin with what is in the shorter.
        val: number of ids in the list of that name, which are in no other.
        size: width and height, pixels.
    """
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = [f"drawn_{number:06d}" for number in range(max(lists.values()) + val)]
    drawn = [_picture(number, size) for number in range(min(pictures, len(ids)))]
    labels = {}
    for number, image_id in enumerate(ids):
        image, mask, classes = drawn[number % len(drawn)]
        labels[image_id] = classes
        paths = root / f"JPEGImages/{image_id}.jpg", root / f"SegmentationClass/{image_id}.png"
        if number < len(drawn):
            image.save(paths[0], quality=QUALITY)
            mask.save(paths[1])
            continue
        for path in paths:
            os.link(path.with_stem(ids[number % len(drawn)]), path)
    np.save(root / "cls_labels.npy", np.array(labels))
    for name, listed in ({name: ids[:count] for name, count in lists.items()} | {"val": ids[-val:]}).items():
        (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")


def _picture(number: int, size: tuple[int, int]) -> tuple[Image.Image, Image.Image, np.ndarray]:
    """Image, mask and labels: one to three ellipses before clouds, under noise."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (size[1] // 16 + 2, size[0] // 16 + 2, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    mask = Image.new("L", size)
    labels = np.zeros(CLASSES, dtype=np.float32)
    for index in rng.choice(CLASSES, rng.integers(1, 4), replace=False):
        centre, radius = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0.1, 0.3) * min(size)
        box = [*(centre - radius), *(centre + radius)]
        ImageDraw.Draw(image).ellipse(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
        ImageDraw.Draw(mask).ellipse(box, fill=int(index) + 1)
        labels[index] = 1
    noisy = np.asarray(image, dtype=np.float32) + rng.normal(0, NOISE, (size[1], size[0], 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), mask, labels
