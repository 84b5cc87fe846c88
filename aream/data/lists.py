"""Lists of image ids in the forms that published code comes with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aream.data.files import read_bounded
from aream.data.findings import Findings
from aream.errors import DataError

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
IMAGE_FOLDERS = {"JPEGImages", "train2014", "val2014", "train2017", "val2017"}
"""A path in a list is one to an image where it leads through one of these."""
BAD_LINES = "lines are no image ids"


@dataclass(frozen=True)
class ImageList:
    ids: Sequence[str]
    """Ids in order, each once."""
    classes: Mapping[str, Sequence[int]] | None = None
    """Classes of each image, 0-based, where the list carries them; an image without any has an empty one."""


def read_split(
    chosen: str | None,
    usual: Sequence[str],
    folders: Sequence[Path],
    found: Findings,
    split: str,
    rename: Callable[[str], str | None],
    classes: int = 0,
) -> ImageList:
    """The list that was ``chosen`` by path or name, else the first of the ``usual`` names in one of ``folders``.

    Lines are bare ids, with or without ``.jpg``; paths such as ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``;
    or, where ``classes`` are counted, ids with the numbers of their classes from 0 on (CLIP-ES). What is wrong is
    ``found``.

    Args:
        rename: gives the id of what a line names; None: it is none.
    """
    try:
        path = _find(chosen, usual, folders)
        lines = read_bounded(path).decode("utf-8-sig").splitlines()
    except (DataError, UnicodeDecodeError) as error:
        words = error if isinstance(error, DataError) else f"{path}: is no list: need UTF-8 text ({error})"
        found.add("lists", "list cannot be read", words, split)
        return ImageList([])
    ids: dict[str, int] = {}
    present: dict[str, list[int]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = line.split()
        identifier = rename(_stem(name))
        if identifier is None or not SAFE_ID.fullmatch(identifier) or ".." in identifier:
            words = f"{path}:{number}: {line[:80]!r} is not an image id: letters, digits, . _ - (at most 128)"
            found.add("lists", BAD_LINES, words, split)
        elif identifier in ids:
            words = f"{path}:{number}: {identifier} stands on line {ids[identifier]} already"
            found.add("lists", "ids are listed again", words, split)
        else:
            ids[identifier] = number
            if classes:
                present[identifier] = _classes(rest, classes, f"{path}:{number}", found, split)
    if not ids:
        found.add("lists", "list names no image", f"{path}: lists no image", split)
    found.notes.append(("lists", split, f"{len(ids)} ids in {path}"))
    return ImageList(list(ids), present if any(present.values()) else None)


def _find(chosen: str | None, usual: Sequence[str], folders: Sequence[Path]) -> Path:
    names = usual if chosen is None else (Path(chosen).name,)
    candidates = [folder / name for name in names for folder in folders]
    if chosen is not None:
        candidates.insert(0, Path(chosen))
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(f"no list of image ids: looked for {', '.join(str(path) for path in candidates)}")


def _stem(name: str) -> str:
    if "/" in name and IMAGE_FOLDERS & set(name.split("/")[:-1]):
        return PurePosixPath(name).stem
    return name.removesuffix(".jpg")


def _classes(words: Sequence[str], classes: int, where: str, found: Findings, split: str) -> list[int]:
    """Numbers after an id; other words, such as the path of a mask, say nothing about classes."""
    if not all(word.isascii() and word.isdigit() for word in words):
        return []
    numbers = [int(word) if len(word) < 6 else classes for word in words]
    wrong = [word for word, number in zip(words, numbers, strict=True) if number >= classes]
    if wrong:
        words_said = f"{where}: class {wrong[0][:20]} is out of range; classes are numbered 0..{classes - 1}"
        found.add("lists", BAD_LINES, words_said, split)
    return sorted({number for number in numbers if number < classes})
