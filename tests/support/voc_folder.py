"""A small folder in the layout of PASCAL VOC, for tests to change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aream.data.examination import inspect
from aream.datasets import voc2012
from aream.errors import DataError

IDS = ("2007_000032", "2007_000039", "2008_000123")
VAL = ("2009_000001",)


def vector(*classes: int) -> np.ndarray:
    labels = np.zeros(20, dtype=np.float32)
    labels[list(classes)] = 1
    return labels


LABELS = {identifier: vector(index, 14) for index, identifier in enumerate((*IDS, *VAL))}


def write_root(folder: Path) -> Path:
    """Three train images, two of which have a mask, and one val image, all labelled."""
    root = folder / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "Annotations"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for identifier in (*IDS, *VAL):
        Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(root / f"JPEGImages/{identifier}.jpg")
    for identifier in (*IDS[:2], *VAL):  # an augmented list may name images without a mask
        ids = np.flatnonzero(LABELS[identifier]) + 1
        mask = rng.choice([0, *ids, 255], (12, 16)).astype(np.uint8)
        image = Image.fromarray(mask)
        if identifier == IDS[0]:
            image.putpalette(rng.integers(0, 255, 768, dtype=np.uint8).tolist())
        image.save(root / f"SegmentationClass/{identifier}.png")
    write_list(root, "train.txt", "\n".join(IDS))
    write_list(root, "val.txt", VAL[0])
    np.save(root / "cls_labels.npy", LABELS)
    return root


def write_list(root, name, text):
    (root / "ImageSets/Segmentation" / name).write_text(text)


def build(root, **changes):
    return voc2012.build(voc2012.Config(root=str(root), **changes))


def fails(root, *messages, **changes):
    with pytest.raises(DataError) as caught:
        inspect(build(root, **changes))
    for message in messages:
        assert message in str(caught.value)
