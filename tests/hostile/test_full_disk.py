"""A disk without room: what says so names the place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orchestrator.console.command import INTERRUPTED, explained
from workers.files.tensors import write_state, write_tensors
from workers.processes.atomic_write import write_json
from workers.processes.file_lock import FileLock


@pytest.fixture
def full(tmp_path) -> Iterator[Path]:
    """A folder on a disk with room for folders, and none for a byte."""
    folder = tmp_path / "full"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk of its own")
    try:
        filled = subprocess.run(["dd", "if=/dev/zero", f"of={folder}/all", "bs=4k"], capture_output=True, text=True)
        assert "No space" in filled.stderr
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


LARGE = {"weight": torch.zeros(100_000)}


def lock(place: Path) -> None:
    with FileLock(place) as taken:
        taken.try_exclusive()


@pytest.mark.parametrize(
    "write",
    [
        lambda place: write_json(place, {}),
        lock,
        lambda place: write_tensors(place, LARGE),
        lambda place: write_state(place, LARGE),
    ],
    ids=["JSON", "lock", "tensors", "state"],
)
def test_what_has_no_room_is_named(full, write):
    place = full / "small" / "state.json"
    place.parent.mkdir()
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(place)
    words, status = explained(caught.value, "sweep")
    assert (words.partition(": No space")[0], status) == (str(place), INTERRUPTED)


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_without_room_for_its_session_ray_is_not_begun(full, monkeypatch, variable):
    from orchestrator.cluster.connection import start

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(full))
    with pytest.raises(OSError, match="No space left on device for Ray's session") as caught:
        start(num_cpus=1)
    assert explained(caught.value, "sweep")[0].startswith(f"{full}: ")
