"""A disk without room: what says so names the place."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from artifact_stores import fill, record
from elsewhere import killed

from orchestrator.console.command import INTERRUPTED, explained
from workers.artifacts.holds import Hold
from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore
from workers.files.tensors import write_state, write_tensors
from workers.processes.atomic_write import write_json
from workers.processes.file_lock import FileLock
from workers.processes.identity import machine_id

ROOT = Path(__file__).resolve().parents[2]
HELD, ORPHAN = (f"train_cam-{number * 16}" for number in "01")
LEFT = """
(store.staging() / "cams").write_bytes(b"0" * 5000)
"""


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


@pytest.mark.parametrize(
    "write",
    [
        lambda place: write_json(place, {}),
        lambda place: write_tensors(place, LARGE),
        lambda place: write_state(place, LARGE),
    ],
    ids=["JSON", "tensors", "state"],
)
def test_what_has_no_room_is_named(full, write):
    place = full / "small" / "state.json"
    place.parent.mkdir()
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(place)
    words, status = explained(caught.value, "sweep")
    assert (words.partition(": No space")[0], status) == (str(place), INTERRUPTED)


def test_a_lock_is_held_where_its_holder_cannot_be_noted(full):
    with FileLock(full / "lock") as held, FileLock(full / "lock") as other:
        assert held.try_exclusive()
        assert not other.try_exclusive()
        assert other.holder() == "another process"


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_without_room_for_its_session_ray_is_not_begun(full, monkeypatch, variable):
    from orchestrator.cluster.connection import start

    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(full))
    with pytest.raises(OSError, match="No space left on device for Ray's session") as caught:
        start(num_cpus=1)
    assert explained(caught.value, "sweep")[0].startswith(f"{full}: ")


# Making room on it


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[..., Path]]:
    """Mounts a small disk of its own on a folder."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(*arguments: str) -> Path:
        if subprocess.run(["mount", *arguments, folder], capture_output=True).returncode:
            pytest.skip("needs the right to mount a disk of its own")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def without_blocks(mounted, tmp_path) -> Path:
    """A disk on which a folder takes a block, as on most."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    if subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True).returncode:
        pytest.skip("needs mkfs.ext4")
    return mounted("-o", "loop", str(image))


@pytest.fixture
def without_files(mounted) -> Path:
    """A disk on which there may be few files."""
    return mounted("-t", "tmpfs", "-o", "size=8m,nr_inodes=150", "tmpfs")


def filled_store(disk: Path, tmp_path: Path) -> ArtifactStore:
    """With an artifact that a finished sweep names, and one that none names, of half a MiB each."""
    store = open_store(str(disk / "store"), tmp_path / "unused")
    for key in (HELD, ORPHAN):
        folder = fill(store.staging(), key)
        (folder / "host.safetensors").write_bytes(key.encode() * (2**19 // len(key)))
        store.put(key, folder, record(key))
    with Hold(store.storage, "5eed", "sweep", [HELD]):
        pass
    return store


def gc(store: ArtifactStore) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "orchestrator.artifacts", "gc", "--grace", "0", "--store", store.storage.uri]
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def assert_collected(store: ArtifactStore, done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert set(store.keys()) == {HELD}
    store.verify(HELD)
    assert not list(store.storage.list("leases/"))


def use_all_files(disk: Path) -> None:
    with contextlib.suppress(OSError):
        for number in range(1000):
            (disk / f"{number}").touch()
    with pytest.raises(OSError, match="No space left"):
        (disk / "further").touch()


@pytest.mark.slow
def test_a_collection_makes_room_where_there_is_no_block(without_blocks, tmp_path):
    disk, store = without_blocks, filled_store(without_blocks, tmp_path)
    subprocess.run(["dd", "if=/dev/zero", f"of={disk}/all", "bs=1k"], capture_output=True)
    with pytest.raises(OSError, match="No space left"):
        (disk / "folder").mkdir()
    assert_collected(store, gc(store))
    (disk / "folder").mkdir()


@pytest.mark.slow
def test_a_collection_makes_room_where_there_may_be_no_further_file(without_files, tmp_path):
    """Of what a killed process of this machine left behind."""
    disk, store = without_files, filled_store(without_files, tmp_path)
    use_all_files(disk)
    before = set(store.keys())
    done = gc(store)
    assert (done.returncode, set(store.keys()), len(done.stderr.splitlines())) == (130, before, 1)
    assert "No space left on device; free some space and run again" in done.stderr
    for number in range(3):
        (disk / f"{number}").unlink()
    killed(machine_id(), (store.storage.uri, None), disk / "store", LEFT)
    use_all_files(disk)
    assert_collected(store, gc(store))
