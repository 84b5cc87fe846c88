"""What a source sends that is not what it should: archives that reach out, other bytes, names that are no paths."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile

import pytest
from staging_places import WEIGHTS, Place, archive, items

from aream.errors import DataError, StoreUnavailable
from workers.staging import cache
from workers.staging.cache import staged


@pytest.mark.slow
def test_bytes_that_are_not_those_written_beside_them(place, node):
    digest = hashlib.sha256(b"what was meant").hexdigest()
    weights = place.put("vit.pth", WEIGHTS)
    place.put("vit.pth.sha256", f"{digest}  vit.pth\n".encode())
    place.put("voc/a", b"one")
    place.put("voc/SHA256SUMS", f"{digest}  ./a\n".encode())
    place.put("less/a", b"one")
    place.put("less/SHA256SUMS", f"{hashlib.sha256(b'one').hexdigest()}  a\n{digest}  missing\n".encode())
    place.put("odd", b"one")
    place.put("odd.sha256", b"<html>")
    for uri, error in (
        (weights, "does not arrive with the digest"),
        (f"{place.uri}/voc", "voc/a does not arrive with the digest"),
        (f"{place.uri}/less", "names 'missing', which is not there"),
        (f"{place.uri}/odd", "not as sha256sum writes it"),
    ):
        with pytest.raises(DataError, match=error):
            staged(uri)
    assert items(node) == set()
    assert not list((node / "partial").glob("*"))


def outside(name: str = "../outside", **changes: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        for key, value in changes.items():
            setattr(entry, key, value)
        tar.addfile(entry, io.BytesIO(b"\0" * entry.size))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        outside(size=3),
        outside("a/../../../outside", size=3),
        outside("link", type=tarfile.SYMTYPE, linkname="../../../../../etc/passwd"),
        outside("link", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        outside("device", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        outside("pipe", type=tarfile.FIFOTYPE),
        archive({"a": WEIGHTS})[:5000],
        b"no archive",
        b"",
    ],
    ids=["parent", "deep parent", "link out", "hard link out", "device", "pipe", "truncated", "other", "empty"],
)
def test_an_archive_that_reaches_out_or_is_none(folder, node, tmp_path, content):
    with pytest.raises(DataError, match=r"voc\.tar: refused as an archive"):
        staged(folder.put("voc.tar", content))
    assert items(node) == set()
    assert not list((node / "partial").glob("*"))
    assert not [path for path in tmp_path.rglob("*outside*")]


@pytest.mark.parametrize("cut", [30, 5000])
def test_a_truncated_compressed_archive(folder, cut):
    content = archive({"a": os.urandom(20000)}, "w:gz")
    with pytest.raises(DataError, match="refused as an archive"):
        staged(folder.put("voc.tar.gz", content[:cut]))


def test_an_archive_that_unpacks_to_more_than_there_is_room_for(folder, node, monkeypatch):
    monkeypatch.setenv(cache.BYTES, "10000000")
    content = archive({f"zeros/{index}": bytes(1 << 20) for index in range(64)}, "w:gz")
    assert len(content) < 1_000_000
    with pytest.raises(StoreUnavailable, match="no room for 67"):
        staged(folder.put("voc.tar.gz", content))
    assert not list((node / "partial").glob("*"))


@pytest.mark.slow
def test_objects_whose_names_are_no_paths(bucket, s3_endpoint, node):
    cache.hand_on(cache.MAX_BYTES, s3_endpoint, (None, "unused", None))
    place = Place(f"s3://{bucket}", s3_endpoint)
    place.put("odd//a", b"a")
    place.put("both/a", b"a")
    place.put("both/a/b", b"b")
    with pytest.raises(DataError, match="is not a path of a file in it"):
        staged(f"{place.uri}/odd")
    with pytest.raises(DataError, match="is an object and a folder"):
        staged(f"{place.uri}/both")
