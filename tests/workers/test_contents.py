"""What identifies data and weights, and when a node reads them again."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from small_voc import write_image, write_voc

from aream.backbones import mctformer_v2
from aream.config import Component
from aream.datasets import shapes, voc2012
from aream.errors import DataError
from workers.contents import Content
from workers.staging import cache


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "node"))
    return write_voc(tmp_path / "VOC2012")


def data(root) -> Content:
    return Content("data", Component(name="voc2012", config=voc2012.Config(root=str(root))))


def weights(path) -> Content:
    return Content("backbone.weights", Component(name="mctformer_v2", config=mctformer_v2.Config(weights=str(path))))


def test_it_is_that_of_the_content_wherever_it_lies(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    assert data(root).identity() == data(tmp_path / "copy").identity() == data(root).remembered_identity()
    write_image(tmp_path / "copy", "2007_000003", np.random.default_rng(9))
    assert data(tmp_path / "copy").identity() != data(root).identity()


def test_what_is_unchanged_is_not_read_again(root):
    """Access times would tell too, if file systems kept them: so the memory itself is changed."""
    content = data(root)
    content.remember("as it was remembered")
    assert content.remembered_identity() == "as it was remembered"


@pytest.mark.parametrize("change", ["content", "same size, old time", "removed mask", "new list"])
def test_every_change_is_seen(root, change):
    content = data(root)
    content.remember("old")
    image = root / "JPEGImages" / "2007_000003.jpg"
    if change == "content":
        write_image(root, "2007_000003", np.random.default_rng(9))
    elif change == "same size, old time":
        before, other = image.stat(), bytearray(image.read_bytes())
        other[-20] ^= 1
        image.write_bytes(other)
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "removed mask":
        (root / "SegmentationClass" / "2007_000003.png").unlink()
    else:
        (root / "ImageSets/Segmentation/train_aug.txt").write_text("2007_000000")
    assert content.remembered_identity() == content.identity() != "old"


def test_what_changes_while_it_is_read_is_read_again(root, monkeypatch):
    """A copy that is still under way, say."""
    read = Content.identity

    def changed_meanwhile(content):
        found = read(content)
        write_image(root, "2007_000003", np.random.default_rng(9))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Content, "identity", changed_meanwhile)
        stale = data(root).remembered_identity()
    assert data(root).remembered_identity() == data(root).identity() != stale


def test_a_folder_that_may_not_be_listed_costs_only_the_memory(root, monkeypatch, caplog):
    def refused(path, above):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("workers.contents._listed", refused)
    assert data(root).remembered_identity() == data(root).identity()
    assert "will be read again next time" in caplog.text


def test_a_torn_memory_is_none(root, tmp_path):
    content = data(root)
    content.remember("old")
    (file,) = (tmp_path / "node").rglob("*.json")
    for damaged in (b"", b"{", b"[]", b'{"listing": 3}', b"\xff"):
        file.write_bytes(damaged)
        assert content.remembered_identity() == content.identity()


def test_a_node_that_cannot_remember_reads(root, tmp_path):
    (tmp_path / "node").write_text("no folder")
    assert data(root).remembered_identity() == data(root).identity()


def test_a_circle_of_links_is_walked_once(root):
    (root / "JPEGImages" / "circle").symlink_to(root)
    data(root).remember("known")
    assert data(root).remembered_identity() == "known"


def test_weights_by_their_bytes(root, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"one")
    (tmp_path / "c.pth").write_bytes(b"two")
    found = {name: weights(tmp_path / f"{name}.pth").remembered_identity() for name in "abc"}
    assert found["a"] == found["b"] != found["c"]
    with pytest.raises(DataError, match="no such weight file"):
        weights(tmp_path / "missing.pth").remembered_identity()


def test_labels_made_elsewhere(root, tmp_path):
    (tmp_path / "labels").mkdir()
    for path in (root / "SegmentationClass").glob("2007_*.png"):  # no ground truth: upside down
        Image.fromarray(np.flipud(np.asarray(Image.open(path)))).save(tmp_path / "labels" / path.name)
    component = data(root).component
    content = Content("segmentation.labels", component, str(tmp_path / "labels"))
    assert content.column == "data"
    assert content.locations == [str(tmp_path / "labels")]
    first = content.remembered_identity()
    shutil.copy(tmp_path / "labels" / "2007_000002.png", tmp_path / "labels" / "2007_000000.png")
    assert content.remembered_identity() == content.identity() != first


def test_what_is_drawn_lies_nowhere():
    assert Content("data", Component(name="shapes", config=shapes.Config())).locations == []
