"""Images, masks, lists and label files that mean harm."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from aream.data.examination import inspect
from aream.data.images import read_image
from aream.datasets import shapes, voc2012
from aream.datasets._voc_labels import read_label_file
from aream.errors import ConfigError, DataError
from workers.files.labels import read_labels, write_labels

IDS = ("2007_000032", "2007_000039")
VAL = "2008_000001"


def vector(*classes: int) -> np.ndarray:
    labels = np.zeros(20, dtype=np.float32)
    labels[list(classes)] = 1
    return labels


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[3:9, 4:12] = 2
    for identifier in (*IDS, VAL):
        Image.new("RGB", (16, 12), (9, 8, 7)).save(root / f"JPEGImages/{identifier}.jpg")
        Image.fromarray(mask).save(root / f"SegmentationClass/{identifier}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(IDS))
    (root / "ImageSets/Segmentation/val.txt").write_text(VAL)
    np.save(root / "cls_labels.npy", {identifier: vector(1) for identifier in (*IDS, VAL)})
    return root


def refusal(root, **changes) -> str:
    with pytest.raises(DataError) as caught:
        inspect(voc2012.build(voc2012.Config(root=str(root), **changes)))
    assert len(str(caught.value)) < 10_000
    return str(caught.value)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claiming(width: int, height: int, *chunks: bytes, mode: int = 0) -> bytes:
    """A PNG of a few bytes whose header says any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(
    "size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (9000, 8000), (12_000, 9000)]
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_absurd_size_is_refused_before_decoding(root, size, monkeypatch):
    (root / f"JPEGImages/{IDS[1]}.jpg").write_bytes(claiming(*size, mode=2))
    assert f"{IDS[1]}.jpg: " in (text := refusal(root))
    assert "67108864" in text
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other code in the process may have it
    assert f"is {size[0]} x {size[1]} pixels; at most 67108864 are allowed" in refusal(root)
    (root / "label.png").write_bytes(claiming(*size))
    with pytest.raises(DataError, match=r"label\.png: is \d+ x \d+ pixels"):
        read_labels(root / "label.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claiming(16, 12), "does not decode"),
        (claiming(0, 12), "does not decode"),
        (pickle.dumps({"a": 1}), "does not decode"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "does not decode"),
        (claiming(16, 12, chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 2**26))), "does not decode"),
        (claiming(16, 12, chunk(b"zTXt", b"x\0\0" + zlib.compress(b"\0" * 2**26))), "does not decode"),
        (b"", "does not decode"),
    ],
    ids=["truncated", "no width", "pickle", "postscript", "profile bomb", "text bomb", "empty"],
)
def test_files_that_are_no_image(root, content, message):
    for path in (root / f"JPEGImages/{IDS[1]}.jpg", root / f"SegmentationClass/{IDS[1]}.png"):
        good = path.read_bytes()
        path.write_bytes(content)
        assert f"{path}: {message}" in refusal(root)
        path.write_bytes(good)


def test_a_pickle_as_a_label_image_is_not_executed(tmp_path):
    path = tmp_path / "label.png"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "pwned")))
    with pytest.raises(DataError, match=r"label\.png: does not decode"):
        read_labels(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 60_000, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_hostile_metadata_changes_no_pixel(root, exif):
    path = root / f"JPEGImages/{IDS[1]}.jpg"
    before = np.array(read_image(path))
    Image.new("RGB", (16, 12), (9, 8, 7)).save(path, exif=exif, icc_profile=b"\xff" * 70_000)
    np.testing.assert_array_equal(np.array(read_image(path)), before)


def test_a_palette_image_with_transparency_is_an_image_where_it_uses_none(tmp_path):
    image = Image.new("P", (4, 4))
    image.putpalette([1, 2, 3] * 256)
    image.save(tmp_path / "a.png", transparency=b"\xff" + bytes(255))
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (1, 2, 3)
    image.save(tmp_path / "a.png", transparency=bytes(256))
    with pytest.raises(DataError, match="transparent pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "outside", "loop"])
@pytest.mark.parametrize(
    "place", ["JPEGImages/{}.jpg", "SegmentationClass/{}.png", "ImageSets/Segmentation/train.txt", "cls_labels.npy"]
)
def test_what_is_no_file_of_the_data(root, tmp_path, kind, place):
    path = root / place.format(IDS[0])
    outside = tmp_path / path.name
    outside.write_bytes(path.read_bytes())
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif path.suffix in (".jpg", ".png"):
        path.symlink_to(outside)
    else:
        pytest.skip("lists and labels may lie anywhere: the configuration names them")
    text = refusal(root)
    assert kind != "outside" or f"{path}: is a link to {outside}" in text


def test_linked_folders_and_links_inside_stay_usable(root, tmp_path):
    (root / "JPEGImages").rename(tmp_path / "elsewhere")
    (root / "JPEGImages").symlink_to(tmp_path / "elsewhere")
    first, second = (root / f"SegmentationClass/{identifier}.png" for identifier in IDS)
    first.unlink()
    first.symlink_to(second.name)
    assert inspect(voc2012.build(voc2012.Config(root=str(root))))


@pytest.mark.parametrize("masks", ["../masks", "/masks", "a/../../b", "", "."])
def test_masks_lie_under_the_root(masks):
    with pytest.raises(ConfigError, match="masks"):
        voc2012.Config(root="x", masks=masks)


@pytest.mark.parametrize(
    "line",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\0b",
        "$(touch pwned)",
        "a;b",
        "\u202eab",
        "-rf",
        ".hidden",
        "a..b",
        "x" * 200,
    ],
)
def test_lists_name_images_only(root, line):
    (root / "ImageSets/Segmentation/train.txt").write_text(f"{IDS[0]}\n{line}\n")
    assert "train.txt:2: " in refusal(root)


def nested(depth: int) -> list:
    value: list = [0.0]
    for _ in range(depth):
        value = [value] * 20
    return value


@pytest.mark.parametrize(
    "content",
    [
        {IDS[0]: nested(30)},
        {IDS[0]: np.array([[1], [2, 3]], dtype=object)},
        {IDS[0]: np.full(20, np.nan)},
        {IDS[0]: np.full(20, 1e300)},
        {IDS[0]: "0" * 20},
        {IDS[0]: 1 + 2j},
        {10**6000: vector(1)},
        {True: vector(1)},
        {("a",): vector(1)},
        np.arange(3),
        np.array([{IDS[0]: vector(1)}, {}], dtype=object),
    ],
    ids=lambda value: None,
)
def test_label_files_with_other_content(tmp_path, content):
    np.save(tmp_path / "labels.npy", content)
    with pytest.raises(DataError, match=r"labels\.npy") as caught:
        read_label_file(tmp_path / "labels.npy")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "reduced",
    [
        (os.system, ("touch pwned",)),
        (eval, ("open('pwned', 'w')",)),
        (np.lib.format.open_memmap, ("pwned", "w+", "u1", None, (1,))),
    ],
    ids=["system", "eval", "numpy"],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_label_files_that_would_run_code(tmp_path, monkeypatch, reduced, protocol):
    monkeypatch.chdir(tmp_path)

    class Reduced:
        def __reduce__(self):
            return reduced

    with (tmp_path / "labels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump({IDS[0]: Reduced()}, file, protocol=protocol)
    with pytest.raises(DataError, match="refused as a label file"):
        read_label_file(tmp_path / "labels.npy")
    np.savez(tmp_path / "labels.npz", ids=np.array([Reduced()], dtype=object), labels=np.zeros((1, 20)))
    with pytest.raises(DataError, match="not a label file"):
        read_label_file(tmp_path / "labels.npz")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.slow
def test_an_archive_that_unpacks_without_end(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**28, 20)})
    with zipfile.ZipFile(tmp_path / "labels.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("labels.npy", "w") as member:
            member.write(header.getvalue())
            for _ in range(300):
                member.write(bytes(2**20))
        archive.writestr("ids.npy", b"")
    with pytest.raises(DataError, match="it unpacks to"):
        read_label_file(tmp_path / "labels.npz")


def test_scenes_that_fill_the_memory():
    with pytest.raises(ConfigError, match="a split is kept in memory"):
        shapes.Config(image_size=512, train_images=100_000)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_labels_of_one_pixel_sides_are_kept(tmp_path, size):
    labels = np.full(size[::-1], 255, dtype=np.uint8)
    write_labels(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
