"""Check that a record can be written into a folder, before anything is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aream.errors import ConfigError
from aream.system_errors import FULL


def refuse_unwritable(folder: Path, key: str) -> None:
    """Try it, which tells what the rights do not say (``/proc``, a file system that is read-only).

    Raises:
        ConfigError: with ``key``; not where the disk is full, which may be over tomorrow.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in FULL:
            raise ConfigError(f"{key}: in {folder} nothing can be written ({error.strerror})") from error
