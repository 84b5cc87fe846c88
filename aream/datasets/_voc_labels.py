"""PASCAL VOC's classes, and where its image-level labels come from: label files and annotations."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from aream.data.files import read_bounded
from aream.data.findings import Findings
from aream.datasets._label_files import Labels, read_label_table
from aream.errors import DataError

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

MAX_ANNOTATION_BYTES = 2**20


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
            found.add("labels", "images have no usable annotation", str(error), split)
    return labels


class _NoDocumentType(ElementTree.TreeBuilder):
    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Entities, of which a few make gigabytes, can be declared nowhere else."""
        raise ValueError("it declares a document type, which an annotation does not need")


def _parsed(content: bytes) -> ElementTree.Element:
    """Parse in the encoding that its first line or its byte order mark says; UTF-8 without."""
    parser = ElementTree.XMLParser(target=_NoDocumentType())
    parser.feed(content)
    return parser.close()


def _annotation(path: Path) -> Float32[np.ndarray, " c"]:
    if not path.exists():
        raise DataError(f"{path}: no annotation for this image of the list")
    try:
        objects = _parsed(read_bounded(path, MAX_ANNOTATION_BYTES)).findall("object")
        names = [(found.findtext("name") or "").strip() for found in objects]
    except (ValueError, LookupError, ElementTree.ParseError) as error:  # LookupError: no such encoding
        raise DataError(
            f"{path}: cannot be read as an annotation ({error}); need XML in UTF-8, or in an encoding of one byte or"
            " UTF-16 that its first line declares"
        ) from error
    if not names:
        raise DataError(
            f"{path}: no object in it; need <object><name>CLASS</name></object> under the root, without a namespace. "
            "An image without any class has zeros in a label file"
        )
    if "" in names:
        raise DataError(f"{path}: object {names.index('') + 1} has no name")
    unknown = sorted(set(names) - set(CLASS_NAMES))
    if unknown:
        raise DataError(f"{path}: unknown classes {', '.join(unknown)}; allowed are {', '.join(CLASS_NAMES)}")
    return np.array([name in names for name in CLASS_NAMES], dtype=np.float32)
