"""Count the cores that the system, a scheduler or a container lets this process use, not those of the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def usable_cores(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Whole cores of its affinity and of every control group above it (v1 and v2), at least 1."""
    allowed = float(len(os.sched_getaffinity(0)))
    return max(1, math.floor(min([allowed, *_quotas(proc, groups)])))


def _quotas(proc: Path, groups: Path) -> Iterator[float]:
    """The cores that each group allows, where it limits them."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controllers == "":
            for folder in (groups, groups / "unified"):  # the second where both versions are mounted
                for group in _upwards(folder, own):
                    yield from _quota(group / "cpu.max")
        elif "cpu" in controllers.split(","):
            for name in (controllers, "cpu"):
                for group in _upwards(groups / name, own):
                    yield from _quota(group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")


def _upwards(root: Path, own: str) -> Iterator[Path]:
    """A group's folder and those above it; of a group that a container does not see, the root."""
    group = Path(os.path.normpath(root / own.lstrip("/")))
    while group != root and root in group.parents:
        yield group
        group = group.parent
    yield root


def _quota(*files: Path) -> Iterator[float]:
    """Yield the cores allowed by ``QUOTA PERIOD`` in one file or two; ``max`` and -1 mean no limit."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        if quota != "max" and float(quota) > 0 and float(period) > 0:
            yield float(quota) / float(period)
    except (OSError, ValueError):
        return
