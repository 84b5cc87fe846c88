"""Files that outlive a process: whole or absent, on the disk before they have their name, and told when damaged."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from aream.errors import DamagedFile
from workers.processes.atomic_write import StateFile, place_folder, write_bytes, write_json, write_text


@pytest.fixture
def calls(monkeypatch):
    """The system calls of a write in their order, each made: ("fsync", inode) and ("replace", inode)."""
    made = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor):
        made.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def seen_replace(source, target):
        made.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    return made


def test_content_is_on_the_disk_before_the_name_and_the_name_before_it_is_relied_on(tmp_path, calls):
    path = tmp_path / "new" / "spent.json"
    write_text(path, "content")
    content, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert calls == [("fsync", content), ("replace", content), ("fsync", folder)]
    assert path.read_text() == "content"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside(tmp_path, monkeypatch, call):
    path = tmp_path / "spent.json"
    write_json(path, {"gpu_seconds": 5})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"gpu_seconds": 6})
    assert json.loads(path.read_text()) == {"gpu_seconds": 5}
    assert os.listdir(tmp_path) == ["spent.json"]


def test_a_file_system_that_cannot_sync_folders_is_written_to_nevertheless(tmp_path, monkeypatch):
    fsync = os.fsync

    def only_files(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_bytes(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.slow
def test_a_reader_never_sees_half_of_what_a_killed_writer_wrote(tmp_path):
    path = tmp_path / "file"
    program = (
        "import sys; from pathlib import Path; from workers.processes.atomic_write import write_text\n"
        "for number in range(10**9): write_text(Path(sys.argv[1]), f'{number % 10}' * 300_000)"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
        while not path.exists():
            time.sleep(0.01)
        for _ in range(50):
            text = path.read_text()
            assert len(text) == 300_000
            assert len(set(text)) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert len(path.read_text()) == 300_000


def test_two_threads_may_write_one_file(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_text(path, f"{number}" * 1000), range(200)))
    assert path.read_text() in {f"{number}" * 1000 for number in range(200)}
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_appears_as_a_whole(tmp_path):
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "file").write_text("content")
    place_folder(beside, tmp_path / "folder")
    assert (tmp_path / "folder" / "file").read_text() == "content"
    assert not beside.exists()


def number_file(path):
    def seconds(content):
        return json.loads(content)["s"]

    return StateFile(path, "the seconds spent", "delete it to count from zero", seconds)


def test_an_absent_file_is_none_and_a_good_one_is_read(tmp_path):
    file = number_file(tmp_path / "spent.json")
    assert file.read() is None
    assert file.read_or_begin_anew() is None
    write_json(file.path, {"s": 3})
    assert file.read() == 3
    assert file.read_or_begin_anew() == 3


DAMAGES = {
    "empty": b"",
    "zeros": b"\0" * 40,
    "half": b'{"s": ',
    "not text": b'\xff\xfe{"s": 1}',
    "a list": b"[1]",
    "null": b"null",
    "another key": b'{"t": 1}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_with_what_it_holds_and_how_to_go_on(tmp_path, content, caplog):
    file = number_file(tmp_path / "spent.json")
    file.path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        file.read()
    for part in (str(file.path), "the seconds spent", "delete it to count from zero"):
        assert part in str(caught.value)
    assert file.path.read_bytes() == content
    assert file.read_or_begin_anew() is None
    assert str(caught.value) in caplog.text
    assert (tmp_path / "spent.json.damaged").read_bytes() == content
    assert file.read() is None


def test_what_cannot_be_read_now_is_not_begun_anew(tmp_path):
    file = number_file(tmp_path / "spent.json")
    file.path.mkdir()
    with pytest.raises(DamagedFile, match="cannot be read"):
        file.read_or_begin_anew()
    assert file.path.is_dir()
