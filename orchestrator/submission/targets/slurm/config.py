"""The section of a lab file about its Slurm."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from aream.config import config
from aream.errors import ConfigError
from workers.processes.masking import masked

MAX_LOCAL = 24
"""Characters: the path of a socket has 107 at most, and Ray adds up to 80."""


TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")


OURS = ("job-name", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "export", "array", "wrap",
        "nodes", "ntasks", "ntasks-per-node", "cpus-per-task")  # fmt: skip
"""Options that the script sets, and relies on."""


@config
class Config:
    image: str | None = None
    """For Apptainer: the absolute path of a .sif file or sandbox, ``docker://IMAGE``, or another image's name."""
    venv: str | None = None
    """Absolute folder of a virtual environment with this package; without it and an image, ``setup`` provides one."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None
    """Time limit of one attempt, as sbatch takes it (``D-HH:MM:SS``): a sweep that needs longer is queued again."""
    gpu_type: str | None = None
    """Kind of the GPUs that are asked for, as the cluster names it."""
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Ray resources of every node beside CPUs and GPUs, for sweeps that ask for some by name."""
    options: tuple[str, ...] = ()
    """More options for sbatch, such as ``--mail-type=END``."""
    setup: tuple[str, ...] = ()
    """Lines of bash that run first, such as ``module load apptainer``."""
    bind: tuple[str, ...] = ()
    """Folders that a container sees beside ``runs`` and ``local``: data roots."""
    secrets_file: str | None = None
    """Absolute path, on the nodes, of a file of ``NAME=VALUE`` lines that only its owner can read. Quotes around a
    value are left out; nothing in it is replaced or run."""
    local: str = "/tmp"
    """Folder on a disk of each node, for Ray's sockets; short."""
    join_s: int = 300
    """Seconds in which all nodes must have joined."""
    save_s: int = 120
    """Seconds before the end of its time in which the sweep saves its state."""
    requeues: int = 100
    """Most restarts of a job, for whatever reason."""

    def __post_init__(self) -> None:
        for name in ("venv", "secrets_file", "local"):
            value = getattr(self, name)
            if value is not None and not (Path(value).is_absolute() and value.isprintable()):
                raise ConfigError(f"{name}: need an absolute path, got {value!r}")
        if self.image and self.venv:
            raise ConfigError("venv: give it or image; an image has an environment of its own")
        if len(self.local.encode()) > MAX_LOCAL:
            raise ConfigError(f"local: need at most {MAX_LOCAL} characters, for Ray's sockets, got {self.local!r}")
        if self.time is not None and not TIME.fullmatch(self.time):
            raise ConfigError(f"time: need minutes, HH:MM:SS or D-HH:MM:SS, got {self.time!r}")
        for name in ("join_s", "save_s"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")
        if self.requeues < 0:
            raise ConfigError(f"requeues: need 0 or more, got {self.requeues}")
        if any(masked(line) != line for line in self.setup):
            raise ConfigError("setup: holds a password or key, and Slurm keeps and shows the script: use secrets_file")
        for option in self.options:
            name = option.removeprefix("--").partition("=")[0]
            if not re.fullmatch(r"--[a-z][a-z-]+(=.+)?", option) or name in OURS:
                raise ConfigError(
                    f"options: need --NAME or --NAME=VALUE, and none of {', '.join(OURS)}, got {option!r}"
                )
