"""The memory that a process may use: files of control groups as Linux shows them, in a folder of the test's."""

from __future__ import annotations

import shutil

import pytest

from workers.processes.memory_limits import forget_peak, free_shared_memory, peak_bytes, usable_memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    """Makes the files; the folders to look in."""

    def made(cgroup: str, **files: object):
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path / "proc", tmp_path / "groups"

    return made


def test_the_narrowest_group_of_version_2_counts(machine):
    files = {"a/memory.max": GIB // 2, "a/memory.current": 1000, "memory.max": "max", "memory.current": 5000}
    assert usable_memory(*machine("0::/a\n", **files)) == GIB // 2


def test_version_1_and_no_limit(machine):
    unlimited = {"memory/memory.limit_in_bytes": 2**63 - 4096, "memory/memory.usage_in_bytes": 10}
    places = machine("4:memory:/x\n", **unlimited)
    assert GIB // 2 < usable_memory(*places) < 2**50
    (places[1] / "memory" / "memory.limit_in_bytes").write_text(str(GIB // 4))
    assert usable_memory(*places) == GIB // 4


def test_shared_memory_is_what_the_folder_and_the_groups_leave(machine, tmp_path):
    files = {
        "memory.max": GIB // 64,
        "memory.current": GIB // 128,
        "memory.stat": f"anon 5\nfile {GIB // 256}\ninactive_file {GIB // 512}\nactive_file {GIB // 512}",
    }
    places = machine("0::/\n", **files)
    assert free_shared_memory(*places, shared=tmp_path) == GIB // 64 - GIB // 128 + GIB // 256
    (places[1] / "memory.max").write_text("max")
    assert free_shared_memory(*places, shared=tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert free_shared_memory(*places, shared=tmp_path / "none") == 0


def test_a_peak_is_of_what_came_after_the_last_was_forgotten():
    large, small = 200 << 20, 20 << 20
    forget_peak()
    before = peak_bytes()
    bytearray(large)
    assert peak_bytes() >= before + large * 0.9
    forget_peak()
    bytearray(small)
    assert peak_bytes() < before + large / 2
