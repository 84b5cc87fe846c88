"""Image labels from files, as rows: what an image is called, what is in it, and which split it is of."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aream.datasets._folder.classes import listed, parse_json, read_text
from aream.datasets._folder.config import Labels
from aream.datasets._folder.files import IMAGE_ENDINGS, shown
from aream.errors import DataError

CLASS_COLUMNS = ("labels", "label", "classes", "class", "tags", "categories")
IMAGE_KEYS = ("image", "file_name", "filename", "file", "path", "name", "id")
PRESENT, ABSENT = ("1", "1.0", "true", "True"), ("0", "0.0", "false", "False", "")
SEPARATORS = ";|"
MOST_COLUMNS = 4096


@dataclass(frozen=True)
class Row:
    where: str
    """FILE:LINE or FILE with what stands for a line there."""
    image: str
    names: tuple[str, ...]
    """Classes, and names that mean none."""
    split: str | None = None


@dataclass(frozen=True)
class Table:
    rows: Sequence[Row]
    names: tuple[str, ...] | None = None
    """Names of all classes in order, where the file says them."""


def read_csv(path: Path, asked: Labels, split: str | None) -> Table:
    """A row an image, under a header; names of classes in one column, or a column of 0 and 1 a class.

    Args:
        split: name of the column that says what an image is for.

    Raises:
        DataError: naming the file, the line, and what is allowed there.
    """
    lines = _lines(path, read_text(path))
    _, header = next(lines, (1, []))
    header = [cell.strip() for cell in header]
    if len(header) < 2 or len(set(header)) < len(header) or len(header) > MOST_COLUMNS:
        raise DataError(
            f"{path}:1: need a header of two or more columns with different names, such as image,labels; got "
            f"{listed(header) or 'nothing'}"
        )
    if header[0].lower().endswith(IMAGE_ENDINGS):
        raise DataError(f"{path}:1: need a header such as image,labels; {shown(header[0][:80])!r} is an image")
    image = _column(path, header, asked.image or header[0], "labels.image")
    named = _names_column(path, header, asked)
    of_split = None if split is None else _column(path, header, split, "split.column")
    flags = () if named is not None else [at for at in range(len(header)) if at not in (image, of_split)]
    if named is None and not flags:
        raise DataError(f"{path}:1: no column of classes; need one of {', '.join(CLASS_COLUMNS)}, or one a class")
    rows = []
    for number, cells in lines:
        where = f"{path}:{number}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{where}: has {len(cells)} cells, the header {len(header)}; quote a cell that holds commas"
            )
        if named is None:
            names = tuple(header[at] for at in flags if _flag(where, header[at], cells[at]))
        else:
            names = split_names(cells[named], asked.separator)
        use = None if of_split is None else cells[of_split].strip()
        rows.append(Row(where, cells[image].strip(), names, use))
    return Table(rows, tuple(header[at] for at in flags) or None)


def read_json(path: Path, asked: Labels, split: str | None) -> Table:
    """Classes by image, ``{"a.jpg": ["cat"]}``; records, ``[{"image": "a.jpg", "labels": ["cat"]}]``; or COCO's
    annotations.

    Raises:
        DataError: naming the file and the entry.
    """
    found = parse_json(read_text(path), path)
    if isinstance(found, Mapping) and {"images", "annotations", "categories"} <= found.keys():
        if split is not None:
            raise DataError(
                f"{path}: COCO's annotations have no key for split.column; give lists as split.train and val"
            )
        return coco_table(found, path)
    if isinstance(found, Mapping):
        if split is not None:
            raise DataError(f"{path}: classes by image have no key {split!r}; need a list of records for split.column")
        return Table([Row(f"{path}: {shown(key)!r}", key, _names(f"{path}: {shown(key)!r}", value, asked))
                      for key, value in found.items()])  # fmt: skip
    if not isinstance(found, list):
        raise DataError(f"{path}: need classes by image, a list of records, or COCO's annotations")
    rows = []
    for number, record in enumerate(found):
        where = f"{path}: record {number}"
        if not isinstance(record, Mapping):
            raise DataError(f"{where}: need a section with an image and its labels, got {type(record).__name__}")
        image = _key(where, record, asked.image, IMAGE_KEYS, "labels.image")
        value = _key(where, record, asked.classes, CLASS_COLUMNS, "labels.classes")
        use = None if split is None else str(_key(where, record, split, (), "split.column"))
        rows.append(Row(where, str(image), _names(where, value, asked), use))
    return Table(rows)


def split_names(cell: str, separator: str | None) -> tuple[str, ...]:
    """Names in a cell; an empty one holds none."""
    if separator is None:
        for other in SEPARATORS[1:]:
            cell = cell.replace(other, SEPARATORS[0])
        separator = SEPARATORS[0]
    return tuple(dict.fromkeys(name.strip() for name in cell.split(separator) if name.strip()))


def _lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line they begin at, separated by the first tab, comma or semicolon of the header."""
    if "\0" in text:
        raise DataError(
            f"{path}:{text[: text.index(chr(0))].count(chr(10)) + 1}: holds a zero byte; need text in UTF-8"
        )
    first = text.lstrip("\r\n").partition("\n")[0]
    between = "\t" if path.suffix.lower() == ".tsv" else next((c for c in first if c in ",;\t"), ",")
    reader, begun = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True), 1
    try:
        for cells in reader:
            yield begun, cells
            begun = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{begun}: cannot be read as a row ({error})") from error


def _column(path: Path, header: Sequence[str], name: str, key: str) -> int:
    if name not in header:
        raise DataError(f"{path}:1: {key}: no column {shown(name)!r}; there are {listed(header)}")
    return header.index(name)


def _names_column(path: Path, header: Sequence[str], asked: Labels) -> int | None:
    if asked.classes is not None:
        return _column(path, header, asked.classes, "labels.classes")
    lower = [cell.casefold() for cell in header]
    return next((lower.index(name) for name in CLASS_COLUMNS if name in lower), None)


def _flag(where: str, column: str, cell: str) -> bool:
    if cell.strip() not in (*PRESENT, *ABSENT):
        raise DataError(
            f"{where}: column {shown(column)!r}: got {shown(cell[:40])!r}; a column a class holds 0 or 1. Names stand "
            f"in a column {', '.join(CLASS_COLUMNS)}, or that of labels.classes; that of split.column is none"
        )
    return cell.strip() in PRESENT


def _key(where: str, record: Mapping[str, object], asked: str | None, usual: Sequence[str], key: str) -> object:
    name = asked if asked is not None else next((one for one in usual if one in record), None)
    if name is None or name not in record:
        wanted = f"{asked!r}" if asked is not None else f"of {', '.join(usual)}"
        raise DataError(f"{where}: {key}: no key {wanted}; there are {listed(map(str, record))}")
    return record[name]


def _names(where: str, value: object, asked: Labels) -> tuple[str, ...]:
    """Names of a text, a list, or of those that a section says 1 or true of."""
    if isinstance(value, str):
        return split_names(value, asked.separator)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(dict.fromkeys(value))
    if isinstance(value, Mapping) and all(flag in (0, 1) and not isinstance(flag, str) for flag in value.values()):
        return tuple(name for name, flag in value.items() if flag)
    raise DataError(f"{where}: need names of classes, or a section of 0 and 1, got {shown(str(value)[:80])}")


def coco_table(found: Mapping[str, object], path: Path) -> Table:
    """Each image with the categories of its annotations, those of crowds too.

    Args:
        found: the content of a file of COCO's annotations.

    Raises:
        DataError: naming the file and the entry.
    """

    def entries(part: str, keys: Mapping[str, type]) -> list[Mapping[str, object]]:
        given = found[part]
        for number, entry in enumerate(given if isinstance(given, list) else [given]):
            if not isinstance(entry, Mapping) or not all(type(entry.get(key)) is kind for key, kind in keys.items()):
                need = " and ".join(f"{key}, {'a number' if kind is int else 'a text'}" for key, kind in keys.items())
                raise DataError(f"{path}: {part}[{number}]: need {need}")
        return list(given)  # type: ignore[call-overload]

    def once(part: str, pairs: Sequence[tuple[object, str]]) -> dict[object, str]:
        made: dict[object, str] = {}
        for key, value in pairs:
            if key in made:
                raise DataError(f"{path}: {part}: the id {key} stands there twice")
            made[key] = value
        return made

    categories = entries("categories", {"id": int, "name": str})
    names = once("categories", [(one["id"], str(one["name"])) for one in categories])
    images = once(
        "images", [(one["id"], str(one["file_name"])) for one in entries("images", {"id": int, "file_name": str})]
    )
    present: dict[object, list[str]] = {key: [] for key in images}
    for number, one in enumerate(entries("annotations", {"image_id": int, "category_id": int})):
        for key, known in (("image_id", images), ("category_id", names)):
            if one[key] not in known:
                raise DataError(f"{path}: annotations[{number}].{key}: {one[key]} is in no list of the file")
        present[one["image_id"]].append(names[one["category_id"]])
    ordered = tuple(names[key] for key in sorted(names, key=lambda number: int(str(number))))
    rows = [Row(f"{path}: image {key}", name, tuple(dict.fromkeys(present[key]))) for key, name in images.items()]
    return Table(rows, ordered)
