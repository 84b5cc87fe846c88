"""Annotations of images as PASCAL VOC writes them: XML, a file an image."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from aream.data.files import read_bounded
from aream.errors import DataError

MAX_ANNOTATION_BYTES = 2**20


class _NoDocumentType(ElementTree.TreeBuilder):
    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Entities, of which a few make gigabytes, can be declared nowhere else."""
        raise ValueError("it declares a document type, which an annotation does not need")


def object_names(path: Path) -> list[str]:
    """Names of the objects, "difficult" ones too, as often as they occur.

    Raises:
        DataError: missing, no annotation, without any object, or with one that has no name.
    """
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
    return names


def _parsed(content: bytes) -> ElementTree.Element:
    """Parse in the encoding that its first line or its byte order mark says; UTF-8 without."""
    parser = ElementTree.XMLParser(target=_NoDocumentType())
    parser.feed(content)
    return parser.close()
