"""Somebody else's store and sweep, which this user may read and not write."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from artifact_stores import KEY, contents, fill, record

from orchestrator import artifacts
from orchestrator.browser.measures import Measures
from orchestrator.console.permissions import permission_advice
from workers.artifacts.opening import open_store
from workers.artifacts.packing import SMALL_BYTES

LARGE = random.Random(0).randbytes(SMALL_BYTES + 1)


@pytest.fixture(params=["views are there", "no views"])
def shared(request, tmp_path) -> Path:
    """A runs folder with a store, on a file system that may only be read."""
    runs = tmp_path / "runs"
    store = open_store(None, runs / "artifacts")
    source = fill(store.staging())
    (source / "weights").write_bytes(LARGE)
    store.put(KEY, source, record())
    if request.param == "no views":
        store.views.drop(KEY)
    yield from mounted(runs)


def mounted(folder: Path):
    shown = folder.parent / "shared"
    shown.mkdir()
    if subprocess.run(["mount", "--bind", folder, shown], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", shown], check=True)
        assert not os.access(shown, os.W_OK)
        yield shown
    finally:
        subprocess.run(["umount", "-l", shown], check=True)


def test_its_artifacts_are_read(shared):
    store = open_store(None, shared / "artifacts")
    found = contents(store.get(KEY))
    assert found == contents(store.get(KEY))
    assert (found["weights"], found["labels/a.png"]) == (LARGE, b"hello")
    assert store.read(KEY, "curve.json") == b"{}"


def test_views_that_are_there_are_not_made_again(shared):
    store = open_store(None, shared / "artifacts")
    there = next((shared / "artifacts" / "views").glob("*"), None)
    assert (store.get(KEY) == there) == (there is not None)


def test_its_bytes_are_checked(shared, capsys):
    assert artifacts.main(["verify", "--runs", str(shared)]) == 0
    assert capsys.readouterr().out == "1 artifact read, 0 damaged\n"


@pytest.mark.parametrize("arguments", [["gc"], ["verify", "--discard"]])
def test_what_changes_it_is_refused(shared, capsys, arguments):
    assert artifacts.main([*arguments, "--runs", str(shared)]) == 2
    assert "cannot be written (Read-only file system)" in capsys.readouterr().err


def test_damage_is_told_though_it_cannot_be_mended(shared, capsys):
    blob = max((shared.parent / "runs" / "artifacts" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    blob.write_bytes(LARGE[::-1])
    assert artifacts.main(["verify", "--runs", str(shared)]) == 1
    assert "1 artifact read, 1 damaged" in capsys.readouterr().out


def test_what_was_measured_is_shown_though_it_cannot_be_kept(shared):
    measures = Measures(["a", "b"], lambda image_id: [image_id], shared / "small" / "browser" / "rows.json")
    measures.go_on()
    assert (measures.rows, measures.failure, measures.done) == ([["a"], ["b"]], None, True)


def test_the_advice_is_not_about_rights(shared):
    assert "chmod" not in permission_advice(shared / "small")
