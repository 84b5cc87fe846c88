"""Count the cores that the system, a scheduler or a container lets this process use, not those of the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from workers.processes.control_groups import GROUPS, PROC, group_folders


def usable_cores(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Whole cores of its affinity and of every control group above it (v1 and v2), at least 1."""
    quotas = [quota for folder in group_folders("cpu", proc, groups) for quota in _quotas(folder)]
    return max(1, math.floor(min([float(len(os.sched_getaffinity(0))), *quotas])))


def _quotas(group: Path) -> Iterator[float]:
    """Yield the cores that a group allows, in one file ``QUOTA PERIOD`` or in two; ``max`` and -1 mean no limit."""
    for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((group / file).read_text(encoding="utf-8") for file in files).split()
            if quota != "max" and float(quota) > 0 and float(period) > 0:
                yield float(quota) / float(period)
        except (OSError, ValueError):
            continue
