"""Image labels of COCO's own annotations, ``instances_*.json``: the classes that an image has an object of."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from aream.data.files import unreadable
from aream.datasets._coco_classes import CLASS_NAMES
from aream.datasets._folder.classes import parse_json, read_text
from aream.datasets._folder.files import shown
from aream.datasets._folder.tables import coco_table
from aream.errors import DataError

MOST_BYTES = 2**30
"""That of the 118,287 train images of 2017 has 448 MiB."""
KEPT = frozenset({"images", "annotations", "categories", "id", "name", "file_name", "image_id", "category_id"})
"""Keys that are read: outlines, which are nearly all of a file, are let go as they come."""
NAME = re.compile(r"(?:COCO_(?:train|val)2014_)?([0-9]{12})\.jpg")


def read_instances(path: Path) -> Mapping[str, tuple[int, ...]]:
    """The classes of each image, 0-based and in their order, by the 12 digits of its number, lowest first; crowds
    count, and an image without any object has none.

    Raises:
        DataError: not such a file, or one of other classes or images.
    """
    try:
        seen = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return _read(path, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: Path, *version: int) -> Mapping[str, tuple[int, ...]]:
    """Of a file that is as it was: each stage of a trial builds its dataset."""
    found = parse_json(read_text(path, MOST_BYTES), path, KEPT)
    if not isinstance(found, Mapping) or not {"images", "annotations", "categories"} <= found.keys():
        raise DataError(f"{path}: need COCO's annotations: images, annotations and categories")
    table = coco_table(found, path)
    numbers = {name: number for number, name in enumerate(CLASS_NAMES)}
    if table.names is not None and len(set(table.names)) < len(table.names):
        raise DataError(f"{path}: categories: two of them have the same name")
    classes: dict[str, tuple[int, ...]] = {}
    for row in table.rows:
        named, unknown = NAME.fullmatch(row.image), [name for name in row.names if name not in numbers]
        if named is None or unknown:
            words = f"name {shown(row.image[:80])!r}" if named is None else f"class {shown(unknown[0][:80])!r}"
            raise DataError(
                f"{row.where}: the {words} is none of COCO's; need names such as 000000000009.jpg, and its 80 classes"
            )
        if named[1] in classes:
            raise DataError(f"{row.where}: {named[0]} is the number of another image too")
        classes[named[1]] = tuple(sorted(numbers[name] for name in row.names))
    if not classes:
        raise DataError(f"{path}: names no image")
    return dict(sorted(classes.items()))
