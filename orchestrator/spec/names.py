"""Names of sweeps and folders, as people may give them."""

from __future__ import annotations

import re
from pathlib import Path

from aream.errors import ConfigError

LONGEST_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
RESERVED = ("artifacts", "cache", "staging", "checkpoints", "mlflow-artifacts", "mlruns")
"""Names of other folders beside those of sweeps; files that begin with mlflow.db lie there too."""


def is_sweep_name(text: str) -> bool:
    """True if the characters of a name are allowed for a sweep."""
    return NAME.fullmatch(text) is not None


def home(path: str, key: str) -> Path:
    """A path with ``~`` and ``~USER`` replaced.

    Raises:
        ConfigError: nobody knows that home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key}: given {path!r}; there is no such user's home folder") from error
