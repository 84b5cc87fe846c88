"""Names of sweeps and folders, as people may give them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from aream.errors import ConfigError

LONGEST_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
RESERVED = ("artifacts", "cache", "staging", "checkpoints", "mlflow-artifacts", "mlruns")
"""Names of other folders beside those of sweeps; files that begin with mlflow.db lie there too."""


def is_sweep_name(text: str) -> bool:
    """True if the characters of a name are allowed for a sweep."""
    return NAME.fullmatch(text) is not None


def absolute(path: str, key: str, folder: Path | None = None) -> Path:
    """A path from ``folder`` on, by default the working folder, with ``~`` and ``~USER`` replaced.

    Raises:
        ConfigError: nobody knows that home, or the path is no text.
    """
    try:
        found = (Path.cwd() if folder is None else folder) / Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key}: given {path!r}; there is no such user's home folder") from error
    try:
        check_text(found)
    except ValueError as error:
        raise ConfigError(f"{key}: {found}: {error}") from error
    return found


def check_text(path: Path) -> None:
    """
    Raises:
        ValueError: the path is bytes that no text stands for, or that Python takes for another text here; the message
            says what to do.
    """
    try:
        str(path).encode()
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ValueError(
            "a name in it is not UTF-8, which no sweep file or record can hold: rename it, or give another"
            if (coding := sys.getfilesystemencoding()) == "utf-8"
            else f"Python takes names of files for {coding} here: set PYTHONUTF8=1, or a locale of UTF-8"
        ) from error
