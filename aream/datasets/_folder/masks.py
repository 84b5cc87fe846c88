"""Masks in the ways that people keep them: ids, palettes, colours, one value."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aream.data.files import read_bounded, unreadable
from aream.data.images import LOSSLESS_FORMATS, colours, indices, is_coloured, shades
from aream.data.palette import voc_palette
from aream.datasets._folder.classes import Classes, listed
from aream.datasets._folder.config import BACKGROUND_NAME, Colour, Masks
from aream.datasets._folder.files import shown
from aream.errors import DataError
from aream.metrics import BACKGROUND, IGNORE

LOSSY = (b"\xff\xd8\xff",)
"""Beginning of JPEG files, whose values are not quite those that were drawn."""
REMEMBERED = 2**17
"""Masks that a process remembers the classes of, some 400 bytes each."""


class MaskReader:
    """Class ids of masks of one convention; -1 in its table: a value that may not occur."""

    def __init__(self, masks: Masks, classes: Classes) -> None:
        """
        Raises:
            DataError: the convention and the classes do not go together.
        """
        self.masks, self.classes = masks, classes
        self.convention = repr((masks, classes))
        if masks.rgb is not None:
            self.colours = _colour_table(masks.rgb, masks.ignored, classes)
        else:
            self.ids = self._id_table()

    def read(self, path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
        """Class ids 0..C and ``IGNORE`` of a mask.

        Raises:
            DataError: it does not decode, or holds a value or colour that means nothing here.
        """
        if content.startswith(LOSSY):
            return self._lossy(path, content)
        if self.masks.rgb is not None:
            return _of_colours(path, colours(path, content), self.colours)
        if self.masks.stored == "palette" and is_coloured(path, content):
            return _of_colours(path, colours(path, content), self._painted())
        stored = indices(path, content, LOSSLESS_FORMATS)
        mask = self.ids[stored]
        if mask.size and mask.min() < 0:
            wrong = np.unique(stored[mask < 0])
            raise DataError(
                f"{shown(str(path))}: the values {wrong[:8].tolist()} mean no class; allowed are {self._allowed()}"
            )
        return mask.astype(np.uint8)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskReader) and self.convention == other.convention

    def __hash__(self) -> int:
        return hash(self.convention)

    def _id_table(self) -> np.ndarray:
        table, ignored = np.full(256, -1, dtype=np.int16), self.masks.ignored
        if self.masks.binary is not None:
            if len(self.classes.names) != 1:
                raise DataError(f"masks.binary: stands for a single class; there are {listed(self.classes.names)}")
            table[:] = BACKGROUND if self.masks.binary == 0 else -1
            table[0] = BACKGROUND
            table[self.masks.binary] = 1
        else:
            table[self.classes.background] = BACKGROUND
            for number, value in enumerate(self.classes.values, start=1):
                table[value] = number
        if isinstance(ignored, int):
            if table[ignored] > 0 or (ignored == self.classes.background and self.masks.binary is None):
                taken = self.classes.names[table[ignored] - 1] if table[ignored] > 0 else BACKGROUND_NAME
                raise DataError(f"masks.ignore: {ignored} is the value of {shown(taken)}; give another, or none")
            table[ignored] = IGNORE
        return table

    def _painted(self) -> dict[Colour, int]:
        """The ids by PASCAL VOC's colours of their values."""
        palette = voc_palette()
        triples = zip(palette[::3], palette[1::3], palette[2::3], strict=True)
        return {colour: int(number) for colour, number in zip(triples, self.ids, strict=True) if number >= 0}

    def _allowed(self) -> str:
        called = {**dict(enumerate([BACKGROUND_NAME, *self.classes.names])), IGNORE: "ignored"}
        return listed(f"{value} {called[int(self.ids[value])]}" for value in np.flatnonzero(self.ids >= 0))

    def _lossy(self, path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
        """Of a JPEG each pixel has the nearest of the values that mean something."""
        if self.masks.binary is None:
            raise DataError(f"{shown(str(path))}: is a JPEG, which changes values; save masks of this kind as PNG")
        grey = shades(path, content).astype(np.int16)
        other = 0 if self.masks.binary else 255
        values = [other, self.masks.binary, *([self.masks.ignored] if isinstance(self.masks.ignored, int) else [])]
        nearest = np.abs(grey[..., None] - np.array(values)).argmin(axis=-1)
        return np.array([BACKGROUND, 1, IGNORE], dtype=np.uint8)[nearest]


def classes_shown(reader: MaskReader, path: Path) -> bytes:
    """The class ids of a mask, each once in a byte, background and ``IGNORE`` among them; a file that is as it was when
    this process decoded it is not decoded again: each stage of a trial builds its dataset.

    Raises:
        DataError: as :meth:`MaskReader.read`.
    """
    try:
        seen = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return _decoded(reader, path, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@functools.lru_cache(maxsize=REMEMBERED)
def _decoded(reader: MaskReader, path: Path, *version: int) -> bytes:
    return np.unique(reader.read(path, read_bounded(path))).tobytes()


def _colour_table(rgb: object, ignored: object, classes: Classes) -> dict[Colour, int]:
    given: dict[str, Colour] = {name: tuple(colour) for name, colour in dict(rgb).items()}  # type: ignore[call-overload]
    table = {given.pop(BACKGROUND_NAME, (0, 0, 0)): BACKGROUND}
    for name, colour in given.items():
        if colour in table:
            raise DataError(
                f"masks.rgb: {shown(name)} has the colour of {BACKGROUND_NAME}, {list(colour)}; give that another"
            )
        table[colour] = classes.number(name, "masks.rgb") + 1
    missing = [name for name in classes.names if name not in given]
    if missing:
        raise DataError(f"masks.rgb: no colour of {listed(missing)}; need one of every class")
    if isinstance(ignored, tuple):
        if ignored in table:
            raise DataError(f"masks.ignore: {list(ignored)} is the colour of a class or the background; give another")
        table[ignored] = IGNORE
    return table


def _of_colours(path: Path, pixels: UInt8[np.ndarray, "h w 3"], table: dict[Colour, int]) -> UInt8[np.ndarray, "h w"]:
    packed = (pixels.astype(np.int32) * np.array([1 << 16, 1 << 8, 1], dtype=np.int32)).sum(axis=2, dtype=np.int32)
    values, places = np.unique(packed, return_inverse=True)
    known = {(red << 16) + (green << 8) + blue: number for (red, green, blue), number in table.items()}
    wrong = [int(value) for value in values if int(value) not in known]
    if wrong:
        found = [[value >> 16, value >> 8 & 255, value & 255] for value in wrong[:8]]
        allowed = listed(str(list(colour)) for colour in table)
        raise DataError(f"{shown(str(path))}: the colours {found} mean no class; allowed are {allowed}")
    return np.array([known[int(value)] for value in values], dtype=np.uint8)[places].reshape(packed.shape)
