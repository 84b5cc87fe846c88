"""The one reader of images and masks: what a decoder changes or misreads without a word is put right, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from aream.data.files import read_bounded, reason
from aream.errors import DataError

MAX_PIXELS = 2**26
"""Pixels of one image: 8192 x 8192, 200 MB as RGB. A header of a few bytes can claim any number."""
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""Pillow would try forty, one of which hands the file to an interpreter."""
LOSSLESS_FORMATS = ("PNG", "BMP", "TIFF")
"""Those in which a mask's values stay what they were."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of an EXIF orientation look as every viewer shows it."""
SIDEWAYS = (5, 6, 7, 8)
COLOURS = ("1", "L", "P", "RGB", "YCbCr")
WITH_ALPHA = ("LA", "PA", "RGBA")
SIXTEEN = ("I;16", "I;16B", "I;16L")
ALMOST_BLACK = 16
"""Of 255: 16-bit images whose brightest channel stays below hold 12 bits or fewer, and would be read as darkness."""
GREY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies the values of a grey PNG of 2 or 4 bits by, so that 1 of 3 looks like 85 of 255."""
DECODERS_RAISE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, AttributeError, RuntimeError),
    *(OverflowError, MemoryError, struct.error, zlib.error),
)  # fmt: skip


@dataclass(frozen=True)
class _Decoded:
    image: Image.Image
    """Turned upright."""
    size: tuple[int, int]
    """Width and height upright, also where the image was decoded at an eighth of it."""
    stored_as: str
    """Pillow's name of the layout of its pixels in the file, such as ``RGB;16B``."""


def read_image(path: Path) -> Image.Image:
    """An image as viewers show it, mode RGB: upright, 16 bits a channel reduced to 8.

    Raises:
        DataError: missing, too large, not decodable, or without one meaning as RGB: transparent, several frames, CMYK
            without Adobe's marker, numbers of more than 16 bits, 16-bit numbers that only use the lowest part.
    """
    return _rgb(path, _decoded(path, read_bounded(path), IMAGE_FORMATS))


def image_size(path: Path, content: bytes) -> tuple[int, int]:
    """Width and height, upright, of an image whose every byte is decoded.

    Args:
        path: where the content is from, for the message.

    Raises:
        DataError: as :func:`read_image`.
    """
    decoded = _decoded(path, content, IMAGE_FORMATS, reduced=True)
    _rgb(path, decoded)
    return decoded.size


def read_indices(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Values of a palette or grey PNG of 1 to 16 bits as they are stored; converting would turn them into colours.

    Raises:
        DataError: missing, too large, not decodable, a colour image, or values above 255.
    """
    return indices(path, read_bounded(path))


def indices(path: Path, content: bytes, formats: tuple[str, ...] = ("PNG",)) -> UInt8[np.ndarray, "h w"]:
    """The same of what was read already, in one of some formats."""
    decoded = _decoded(path, content, formats)
    mode = decoded.image.mode
    if mode not in ("1", "P", "L", *SIXTEEN):
        raise DataError(
            f"{path}: need an indexed or grey {' or '.join(formats)} whose values are class ids, got mode {mode}"
        )
    values = np.array(decoded.image)
    if values.size and values.max() > np.iinfo(np.uint8).max:
        raise DataError(f"{path}: has the value {values.max()}; class ids are at most 255")
    return values.astype(np.uint8) // np.uint8(GREY_STEPS.get(decoded.stored_as, 1))


def is_coloured(path: Path, content: bytes) -> bool:
    """Return True if the pixels hold colours, and are no indices or shades of grey."""
    return _decoded(path, content, LOSSLESS_FORMATS).image.mode not in ("1", "P", "L", *SIXTEEN)


def colours(path: Path, content: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Colours of an image that was kept without loss, as they are seen.

    Raises:
        DataError: as :func:`read_image`, also for JPEG and WebP.
    """
    return np.array(_rgb(path, _decoded(path, content, LOSSLESS_FORMATS)))


def shades(path: Path, content: bytes) -> UInt8[np.ndarray, "h w"]:
    """Shades of grey of a JPEG; raises as :func:`read_image` does."""
    return np.array(_rgb(path, _decoded(path, content, ("JPEG",))).convert("L"))


def _rgb(path: Path, decoded: _Decoded) -> Image.Image:
    image = decoded.image
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise DataError(f"{path}: is CMYK without Adobe's marker, so that 0 may be no ink or all of it; save it as RGB")
    if image.mode not in (*COLOURS, *WITH_ALPHA, *SIXTEEN, "CMYK"):
        raise DataError(
            f"{path}: has pixels of mode {image.mode}; need grey, RGB, CMYK or a palette of 8 or 16 bits a channel"
        )
    try:
        if image.mode in SIXTEEN:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode in WITH_ALPHA or "transparency" in image.info:
            image = image.convert("RGBA")
            if np.asarray(image.getchannel("A")).min(initial=255) < 255:
                raise DataError(
                    f"{path}: has transparent pixels, whose colour depends on what lies behind; save it without alpha"
                )
        image = image.convert("RGB")
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}: cannot be read as an RGB image ({reason(error)})") from error
    if "16" in decoded.stored_as and np.asarray(image).max(initial=0) < ALMOST_BLACK:
        raise DataError(
            f"{path}: its 16-bit values use less than a sixteenth of their range, so that it would be read as almost "
            "black; scale them to 8 bits"
        )
    return image


def _decoded(path: Path, content: bytes, formats: tuple[str, ...], *, reduced: bool = False) -> _Decoded:
    """Args: reduced: a JPEG may come at an eighth of its size; all its bytes are decoded, in two thirds of the time."""
    try:
        if content.startswith(b"\x89PNG"):  # whose sums and end Pillow does not look at when it decodes
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                _refuse_size(path, image.size)
                image.verify()
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _refuse_size(path, image.size)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a photo, before previews and depth maps of itself
                raise DataError(f"{path}: holds {frames} frames; need a single image")
            stored_as, size = _stored_as(image), image.size
            if reduced:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            orientation = _orientation(image)
            upright = UPRIGHT.get(orientation)
            found = image.copy() if upright is None else image.transpose(upright)
            found.info = dict(image.info)
            return _Decoded(found, size[::-1] if orientation in SIDEWAYS else size, stored_as)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: an image has at most {MAX_PIXELS} pixels ({error})") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: does not decode as an image: its content is none of {', '.join(formats)}, whatever its name says"
        ) from error
    except DECODERS_RAISE as error:
        raise DataError(f"{path}: does not decode as an image ({reason(error)})") from error


def _stored_as(image: Image.Image) -> str:
    """Of the first tile; WebP has none, and 8 bits always."""
    tiles = getattr(image, "tile", [])
    arguments = tiles[0].args if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0] if arguments else "")


def _orientation(image: Image.Image) -> int:
    """1 where the file says nothing, or nothing that can be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except DECODERS_RAISE:
        return 1
    return found if isinstance(found, int) else 1


def _refuse_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{path}: is {size[0]} x {size[1]} pixels; at most {MAX_PIXELS} are allowed")
