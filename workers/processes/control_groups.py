"""Files of the control groups that this process is in, of versions 1 and 2: the limits that a container has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def group_folders(controller: str, proc: Path = PROC, groups: Path = GROUPS) -> Iterator[Path]:
    """Folders of the process's own groups that may limit what a controller counts, each with those above it."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controllers == "":
            for folder in (groups, groups / "unified"):  # the second where both versions are mounted
                yield from _upwards(folder, own)
        elif controller in controllers.split(","):
            for name in (controllers, controller):
                yield from _upwards(groups / name, own)


def _upwards(root: Path, own: str) -> Iterator[Path]:
    """A group's folder and those above it; of a group that a container does not see, the root."""
    group = Path(os.path.normpath(root / own.lstrip("/")))
    while group != root and root in group.parents:
        yield group
        group = group.parent
    yield root
