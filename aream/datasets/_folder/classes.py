"""Names of a folder's classes, and what stands for them in masks."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aream.data.files import MAX_BYTES, read_bounded
from aream.datasets._folder.config import BACKGROUND_NAME, MOST_CLASSES
from aream.datasets._folder.files import shown
from aream.errors import DataError

SHOWN = 20


@dataclass(frozen=True)
class Classes:
    names: tuple[str, ...]
    """Without the background."""
    values: tuple[int, ...]
    """Value of each in masks that hold ids."""
    background: int = 0

    def number(self, name: str, where: str) -> int:
        """Index of a class, from 0.

        Raises:
            DataError: there is none of that name.
        """
        try:
            return self.names.index(name)
        except ValueError:
            near = next((known for known in self.names if known.casefold() == name.strip().casefold()), None)
            hint = f" (did you mean {near}?)" if near else ""
            raise DataError(
                f"{where}: unknown class {shown(name[:80])!r}{hint}; allowed are {listed(self.names)}"
            ) from None


def listed(names: Iterable[str]) -> str:
    """Names for a message, the first of many."""
    every = [shown(name) for name in names]
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")


def of_names(names: Sequence[str], where: str) -> Classes:
    """Classes with the mask ids 1, 2, ...; a first ``background`` has the id 0.

    Raises:
        DataError: there is none, one twice, one without letters, or too many.
    """
    own = list(names[1:] if names and names[0].casefold() == BACKGROUND_NAME else names)
    return _checked(own, range(1, len(own) + 1), 0, where)


def read_classes(path: Path) -> Classes:
    """Classes of a file: a name a line, or JSON: a list of names, or names by their ids.

    Raises:
        DataError: naming the file, and what of it cannot be used.
    """
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return of_names([line.strip() for line in text.splitlines() if line.strip()], str(path))
    found = parse_json(text, path)
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return of_names(found, str(path))
    if isinstance(found, Mapping) and all(isinstance(name, str) for name in found.values()):
        return _by_id(found, path)
    raise DataError(f'{path}: need a list of names, or names by ids such as {{"1": "polyp"}}')


def _by_id(found: Mapping[str, str], path: Path) -> Classes:
    wrong = next(
        (key for key in found if not (key.isascii() and key.isdigit() and len(key) < 9 and int(key) <= 255)), None
    )
    if wrong is not None:
        raise DataError(f"{path}: the id {shown(wrong[:20])!r} is no number in 0..255")
    ordered = sorted((int(key), name) for key, name in found.items())
    background = next((number for number, name in ordered if name.casefold() == BACKGROUND_NAME), 0)
    own = [(number, name) for number, name in ordered if name.casefold() != BACKGROUND_NAME]
    if any(number == background for number, _ in own):
        raise DataError(f"{path}: the id {background} is the background's; give its name, or another id")
    return _checked([name for _, name in own], [number for number, _ in own], background, str(path))


def _checked(names: Sequence[str], values: Sequence[int], background: int, where: str) -> Classes:
    if not names:
        raise DataError(f"{where}: no class; need one name or more beside the background")
    if len(names) > MOST_CLASSES:
        raise DataError(f"{where}: {len(names)} classes; at most {MOST_CLASSES} are allowed")
    for name in names:
        if not name.strip() or not name.isprintable():
            raise DataError(f"{where}: {shown(name[:80])!r} is no name of a class: need letters that can be seen")
        if names.count(name) > 1:
            raise DataError(f"{where}: the class {shown(name)} stands there {names.count(name)} times")
    if len(set(values)) < len(values):
        raise DataError(f"{where}: two classes have the same id")
    if BACKGROUND_NAME in [name.casefold() for name in names]:
        raise DataError(f"{where}: {BACKGROUND_NAME} is no class of its own; leave it out, or let it stand first")
    return Classes(tuple(names), tuple(values), background)


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """UTF-8, with or without a byte order mark, of at most so many bytes.

    Raises:
        DataError: missing, too large, or in another encoding.
    """
    content = read_bounded(path, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: need text in UTF-8; byte {error.start} is none ({error.reason})") from error


def parse_json(text: str, path: Path, keep: Container[str] | None = None) -> object:
    """
    Args:
        keep: keys of sections; others are let go. None: all are kept.

    Raises:
        DataError: it is no JSON, or says two things under one key.
    """

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {shown(twice[:80])!r} stands there twice")
        return made if keep is None else {key: value for key, value in made.items() if key in keep}

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
