"""PASCAL VOC's classes, and where its image-level labels come from: label files and annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from aream.data.findings import Findings
from aream.datasets._annotations import object_names
from aream.datasets._label_files import Labels, read_label_table
from aream.errors import DataError

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_label_file(path: Path) -> Labels:
    """Labels by image id; raises as :func:`aream.datasets._label_files.read_label_table` does."""
    return read_label_table(path, len(CLASS_NAMES), image_id)


def image_id(key: str | int) -> str:
    """``2007_000032`` from itself or, as IRN writes it, the int 2007000032."""
    text = str(key)
    return f"{text[:4]}_{text[4:]}" if isinstance(key, int) else text


def read_annotations(folder: Path, ids: Sequence[str], found: Findings, split: str) -> Labels:
    """Labels from ``Annotations/ID.xml``: the names of the objects, "difficult" ones too.

    An image whose file is missing, is no annotation, has no object or names an unknown class is ``found`` and left
    out: what is not found in a file is not known to be absent from the image.
    """
    labels = {}
    for identifier in ids:
        try:
            labels[identifier] = _annotation(folder / f"{identifier}.xml")
        except DataError as error:
            found.add("labels", "images have no usable annotation", error, split)
    return labels


def _annotation(path: Path) -> Float32[np.ndarray, " c"]:
    names = object_names(path)
    unknown = sorted(set(names) - set(CLASS_NAMES))
    if unknown:
        raise DataError(f"{path}: unknown classes {', '.join(unknown)}; allowed are {', '.join(CLASS_NAMES)}")
    return np.array([name in names for name in CLASS_NAMES], dtype=np.float32)
