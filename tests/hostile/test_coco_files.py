"""COCO's lists, labels, images and masks that mean harm: the guards of VOC's hold here too."""

from __future__ import annotations

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small_coco import CLASSES, TRAIN, VAL, one_hot, write_coco

from aream.config import Component
from aream.data.examination import inspect
from aream.datasets import coco2014
from aream.errors import ConfigError, DataError
from workers.checks.dataset import check_dataset


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco")


def config(root, **changes) -> coco2014.Config:
    return coco2014.Config(root=str(root), **changes)


def refusal(root, **changes) -> str:
    """What ``build`` and ``inspect`` say; the check that goes on must end too, with something wrong."""
    with pytest.raises(DataError) as caught:
        inspect(coco2014.build(config(root, **changes)))
    assert len(str(caught.value)) < 10_000
    assert check_dataset(Component(name="coco2014", config=config(root, **changes)), sample=None).hard
    return str(caught.value)


def bare_lists(root):
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (root / f"{part}.txt").write_text("\n".join(ids))


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_labels_that_would_run_code(root, tmp_path, protocol):
    bare_lists(root)
    with (root / "cls_labels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(
            {name: one_hot(CLASSES[name]) for name in CLASSES} | {"x": Payload(tmp_path / "pwned")}, file, protocol
        )
    assert "refused as a label file" in refusal(root)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("place", [f"train2014/{TRAIN[0]}.jpg", f"SegmentationClass/val2014/{VAL[1]}.png"])
def test_a_pickle_as_an_image_is_not_executed(root, tmp_path, place):
    (root / place).write_bytes(pickle.dumps(Payload(tmp_path / "pwned")))
    assert f"{root / place}: does not decode" in refusal(root)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "key",
    ["../../etc/passwd", "2007_000032", "COCO_train2014_1", "a" * 5000, 10**6000, -1, True, ("a",)],
    ids=lambda key: "",
)
def test_labels_of_what_is_no_image(root, key):
    bare_lists(root)
    np.save(root / "cls_labels.npy", {**{name: one_hot(CLASSES[name]) for name in CLASSES}, key: one_hot((1,))})
    assert "cls_labels.npy: not a label file" in refusal(root)


@pytest.mark.parametrize(
    "line",
    [
        "../COCO_train2014_000000000009",
        "/etc/passwd",
        "train2014/../../../etc/passwd",
        "COCO_train2014_000000000009/../x 3",
        "COCO_train2014_00000000000\u0669",
        "\u0661\u0662",
        "a\0b",
        "$(touch pwned)",
        "-rf",
        "9" * 13,
        "x" * 5000,
    ],
)
def test_lists_name_images_only(root, line):
    (root / "train.txt").write_text(f"{TRAIN[0]} 45 49 50\n{line}\n", encoding="utf-8")
    assert "train.txt:2: " in refusal(root)


@pytest.mark.parametrize("classes", ["80", "9" * 5000, "00000000000000080"])
def test_classes_out_of_range(root, classes):
    (root / "train.txt").write_text(f"{TRAIN[0]} {classes}\n")
    assert "is out of range; classes are numbered 0..79" in refusal(root)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 1)])
@pytest.mark.parametrize("place", [f"train2014/{TRAIN[0]}.jpg", f"SegmentationClass/val2014/{VAL[1]}.png"])
def test_absurd_sizes_are_refused_before_decoding(root, size, place, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other code in the process may have it
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (root / place).write_bytes(content)
    assert f"{root / place}: is {size[0]} x {size[1]} pixels; at most 67108864 are allowed" in refusal(root)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "outside", "loop"])
@pytest.mark.parametrize(
    "place",
    [
        f"train2014/{TRAIN[0]}.jpg",
        f"SegmentationClass/train2014/{TRAIN[0]}.png",
        f"SegmentationClass/val2014/{VAL[1]}.png",
    ],
)
def test_what_is_no_file_of_the_data(root, tmp_path, kind, place):
    """Nothing waits for a pipe or reads a device without end, not even the masks that tell how they are numbered."""
    path, outside = root / place, tmp_path / "outside"
    path.rename(outside)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to(outside)
    with pytest.raises(DataError) as caught:
        inspect(coco2014.build(config(root)))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("masks", ["../masks", "/masks", "a/../../b", "", "."])
def test_masks_lie_under_the_root(masks):
    with pytest.raises(ConfigError, match="masks"):
        coco2014.Config(root="x", masks=masks)
