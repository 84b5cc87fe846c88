"""Whatever a decoder can change or misread: put right, or refused with the file's name; never passed on wrong."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from aream.data.images import image_size, read_image, read_indices
from aream.errors import DataError

TURNED_BACK = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""How a camera stores what it wants to be shown under each EXIF orientation (EXIF 2.3, table of tag 0x0112)."""


def scene() -> np.ndarray:
    """No symmetry: every corner of another colour, wider than high."""
    image = np.full((16, 24, 3), 90, dtype=np.uint8)
    image[:8, :8], image[:8, 16:], image[8:, :8] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    return image


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def png(width: int, height: int, depth: int, colours: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, so that nothing but the specification says what its pixels are."""
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    head = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    every = [(b"IHDR", head), *chunks, (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in every
    )


def refusal(path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_image(path)
    with pytest.raises(DataError):
        image_size(path, path.read_bytes())
    assert str(caught.value).startswith(f"{path}: ")
    assert "object at 0x" not in str(caught.value)
    return str(caught.value)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_images_are_upright(tmp_path, kind, options, orientation):
    stored = Image.fromarray(np.ascontiguousarray(TURNED_BACK[orientation](scene())))
    path = tmp_path / "photo.jpg"
    stored.save(path, kind, exif=exif(orientation), **options)
    read = np.asarray(read_image(path)).astype(int)
    assert image_size(path, path.read_bytes()) == (24, 16)
    assert read.shape == scene().shape
    assert np.abs(read - scene()).mean() < (8 if kind == "JPEG" else 0.5)


def test_an_orientation_in_xmp_alone_counts(tmp_path):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stored = Image.fromarray(np.ascontiguousarray(TURNED_BACK[6](scene())))
    stored.save(tmp_path / "a.jpg", "JPEG", xmp=packet)
    assert read_image(tmp_path / "a.jpg").size == (24, 16)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_changes_nothing(tmp_path, orientation):
    Image.fromarray(scene()).save(tmp_path / "a.png", exif=exif(orientation))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), scene())


def test_a_mask_with_an_orientation_is_turned_as_its_image(tmp_path):
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(np.ascontiguousarray(TURNED_BACK[6](mask))).save(tmp_path / "a.png", exif=exif(6))
    np.testing.assert_array_equal(read_indices(tmp_path / "a.png"), mask)


def test_sixteen_bits_a_channel(tmp_path):
    path = tmp_path / "a.png"
    values = (0, 255 * 257, 128 * 257)
    path.write_bytes(png(3, 1, 16, 0, [struct.pack(">3H", *values)]))
    np.testing.assert_array_equal(np.asarray(read_image(path))[0], [[0] * 3, [255] * 3, [128] * 3])
    path.write_bytes(png(1, 1, 16, 2, [struct.pack(">3H", *values)]))
    assert read_image(path).getpixel((0, 0)) == (0, 255, 128)


@pytest.mark.parametrize("colours", [0, 2])
def test_sixteen_bits_of_which_only_the_lowest_are_used(tmp_path, colours):
    row = struct.pack(f">{1 + colours}H", *[200, 4000, 900][: 1 + colours])
    assert "almost black" in refusal(tmp_path / "a.png", png(1, 1, 16, colours, [row]))


@pytest.mark.parametrize(
    ("depth", "row", "values"),
    [(1, 0b01010000, [0, 1, 0, 1]), (2, 0b00011011, [0, 1, 2, 3])],
)
@pytest.mark.parametrize("colours", [0, 3])
def test_masks_of_few_bits_hold_what_is_stored(tmp_path, depth, row, values, colours):
    palette = [(b"PLTE", bytes(3 * 2**depth))] if colours == 3 else []
    (tmp_path / "a.png").write_bytes(png(4, 1, depth, colours, [bytes([row])], *palette))
    assert read_indices(tmp_path / "a.png").tolist() == [values]


def test_masks_of_four_and_sixteen_bits(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2, 1, 4, 0, [bytes([0x1F])]))
    assert read_indices(tmp_path / "a.png").tolist() == [[1, 15]]
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 0, [struct.pack(">2H", 7, 255)]))
    assert read_indices(tmp_path / "a.png").tolist() == [[7, 255]]
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 0, [struct.pack(">2H", 7, 256)]))
    with pytest.raises(DataError, match="has the value 256; class ids are at most 255"):
        read_indices(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_of_colours_are_refused(tmp_path, mode):
    Image.new(mode, (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(
        DataError, match=rf"a\.png: need an indexed or grey PNG whose values are class ids, got mode {mode}"
    ):
        read_indices(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha(tmp_path, mode):
    opaque = Image.new(mode, (3, 2), (9, 9, 9, 255) if mode == "RGBA" else (9, 255))
    opaque.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (9, 9, 9)
    opaque.putpixel((1, 1), (9, 9, 9, 254) if mode == "RGBA" else (9, 254))
    assert "transparent pixels" in refusal(tmp_path / "a.png", saved(opaque, "PNG"))


def test_a_colour_that_stands_for_transparency(tmp_path):
    image = Image.fromarray(scene())
    content = saved(image, "PNG", transparency=(250, 10, 10))
    assert "transparent pixels" in refusal(tmp_path / "a.png", content)
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))  # which no pixel has
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), scene())


def test_cmyk_with_and_without_adobes_marker(tmp_path):
    """Inks of the first are stored inverted, as Adobe does; of the second nobody can tell."""
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    content = saved(cyan, "JPEG", quality=95)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    red, green, blue = read_image(path).getpixel((4, 4))
    assert red < 20
    assert min(green, blue) > 235
    at = content.index(b"\xff\xee")
    length = struct.unpack(">H", content[at + 2 : at + 4])[0]
    assert "Adobe's marker" in refusal(path, content[:at] + content[at + 2 + length :])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_several_frames(tmp_path, kind):
    first, second = (Image.new("RGB", (8, 8), (level, 9, 9)) for level in (0, 200))
    content = saved(first, kind, save_all=True, append_images=[second])
    assert "holds 2 frames" in refusal(tmp_path / "a.jpg", content)


def test_a_photo_with_previews_of_itself_is_a_photo(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert read_image(tmp_path / "a.jpg").size == (24, 16)


@pytest.mark.parametrize("kind", ["GIF", "PPM"])
def test_other_formats_are_named_as_such(tmp_path, kind):
    words = refusal(tmp_path / "a.jpg", saved(Image.fromarray(scene()).convert("L"), kind))
    assert "none of JPEG, PNG, BMP, WEBP, TIFF" in words


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("cut", [5, 13, 60])
def test_files_that_end_too_soon(tmp_path, kind, cut):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    assert "does not decode" in refusal(tmp_path / "a.jpg", saved(noise, kind)[:-cut])


def test_a_flipped_bit_in_a_mask(tmp_path):
    """Stored without compression, so that only the checksum of the chunk can tell."""
    mask = Image.fromarray(np.full((40, 40), 3, dtype=np.uint8))
    content = bytearray(saved(mask, "PNG", compress_level=0))
    content[200] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="does not decode"):
        read_indices(tmp_path / "a.png")
