"""The cores that a process may use: files of control groups as Linux shows them, in a folder of the test's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orchestrator.cluster.cores import usable_cores

HERE = len(os.sched_getaffinity(0))


@pytest.fixture
def cores(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))

    def cores(cgroup: str, **files: str) -> int:
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(cgroup)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return usable_cores(tmp_path / "proc", tmp_path / "groups")

    return cores


def test_no_limit_leaves_what_the_affinity_allows(cores):
    assert cores("0::/\n", **{"cpu.max": "max 100000\n"}) == 64


def test_a_container_of_version_2(cores):
    assert cores("0::/\n", **{"cpu.max": "350000 100000\n"}) == 3


def test_the_narrowest_group_above_counts(cores):
    files = {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "900000 100000"}
    assert cores("0::/a/b\n", **files) == 2


def test_less_than_a_core_is_one(cores):
    assert cores("0::/\n", **{"cpu.max": "50000 100000\n"}) == 1


@pytest.mark.parametrize("own", ["/", "/docker/0123"])  # a container sees its own group as the root, or its host's name
@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
def test_a_container_of_version_1(cores, controllers, own):
    files = {f"{controllers}/cpu.cfs_quota_us": "400000", f"{controllers}/cpu.cfs_period_us": "100000"}
    assert cores(f"5:memory:/x\n4:{controllers}:{own}\n0::/\n", **files) == 4


def test_version_1_without_a_limit(cores):
    assert cores("4:cpu:/\n", **{"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}) == 64


def test_the_affinity_counts():
    script = "from orchestrator.cluster.cores import usable_cores; print(usable_cores())"
    one = min(os.sched_getaffinity(0))
    said = subprocess.run(["taskset", "-c", str(one), sys.executable, "-c", script], capture_output=True, text=True)
    assert (said.stdout, said.returncode) == ("1\n", 0)
    assert usable_cores() <= HERE
