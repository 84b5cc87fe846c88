"""Files that come from elsewhere, bounded before they are read and before a pixel is decoded."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aream.errors import DataError

MAX_BYTES = 2**28
MAX_PIXELS = 2**26
"""Pixels of one image: 8192 x 8192, 200 MB as RGB. A header of a few bytes can claim any number."""
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
"""Pillow would try forty, one of which hands the file to an interpreter."""


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file; pipes and devices may never end.

    Raises:
        DataError: missing, not readable, not a regular file, or of more than ``most`` bytes.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: is not a regular file")
        if found.st_size > most:
            raise DataError(f"{path}: has {found.st_size} bytes; at most {most} are allowed")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def refuse_link_out(path: Path, folders: Sequence[Path]) -> None:
    """Whole folders may be links, as their owner made them; one file that leads elsewhere came with the data.

    Raises:
        DataError: the file is a link to a place outside all of ``folders``.
    """
    if not path.is_symlink():
        return
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: is a link that leads nowhere") from error
    if not any(target.is_relative_to(folder.resolve()) for folder in folders):
        raise DataError(
            f"{path}: is a link to {target}, outside of {folders[0]}; copy the file, or make its whole folder a link"
        )


def read_image(path: Path) -> Image.Image:
    """An image, mode RGB.

    Raises:
        DataError: missing, too large, not decodable.
    """
    return _rgb(path, _decoded(path, read_bounded(path), IMAGE_FORMATS))


def image_size(path: Path, content: bytes) -> tuple[int, int]:
    """Width and height of an image whose every byte is decoded.

    Args:
        path: where the content is from, for the message.

    Raises:
        DataError: too large, not decodable.
    """
    reduced = _decoded(path, content, IMAGE_FORMATS, reduced=True)
    _rgb(path, reduced)
    with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
        return image.size


def read_indices(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Indices of a palette or grey PNG as they are stored; converting would turn them into colours.

    Raises:
        DataError: missing, too large, not decodable, or a colour image.
    """
    return indices(path, read_bounded(path))


def indices(path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
    """The same of what was read already."""
    image = _decoded(path, content, ("PNG",))
    if image.mode not in ("P", "L"):
        raise DataError(f"{path}: need an indexed or grey PNG, got mode {image.mode}")
    return np.array(image, dtype=np.uint8)


def _rgb(path: Path, image: Image.Image) -> Image.Image:
    try:
        return image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}: cannot be read as an RGB image ({error})") from error


def _decoded(path: Path, content: bytes, formats: tuple[str, ...], *, reduced: bool = False) -> Image.Image:
    """Args: reduced: a JPEG may come at an eighth of its size; all its bytes are decoded, in two thirds of the time."""
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _refuse_size(path, image.size)
            if reduced:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            return image.copy()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: an image has at most {MAX_PIXELS} pixels ({error})") from error
    except (
        *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, AttributeError),
        *(OverflowError, MemoryError, struct.error, zlib.error),
    ) as error:  # what Pillow's decoders let through
        raise DataError(f"{path}: does not decode as an image ({error})") from error


def _refuse_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{path}: is {size[0]} x {size[1]} pixels; at most {MAX_PIXELS} are allowed")
