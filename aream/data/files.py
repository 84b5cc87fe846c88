"""Files that come from elsewhere, bounded before they are read."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from aream.errors import DataError

MAX_BYTES = 2**28


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file; pipes and devices may never end.

    Raises:
        DataError: missing, not readable, not a regular file, or of more than ``most`` bytes.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: is not a regular file")
        if found.st_size > most:
            raise DataError(f"{path}: has {found.st_size} bytes; at most {most} are allowed")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def bounded_lines(path: Path, most: int = 2**20) -> Iterator[bytes]:
    """The lines of a regular file, one at a time.

    Raises:
        DataError: missing, not readable, not a regular file, or with a line of more than ``most`` bytes.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            while line := file.readline(most + 1):
                if len(line) > most:
                    raise DataError(f"{path}: has a line of more than {most} bytes")
                yield line
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def refuse_link_out(path: Path, folders: Sequence[Path]) -> None:
    """Whole folders may be links, as their owner made them; one file that leads elsewhere came with the data.

    Raises:
        DataError: the file is a link to a place outside all of ``folders``.
    """
    if not path.is_symlink():
        return
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: is a link that leads nowhere") from error
    if not any(target.is_relative_to(folder.resolve()) for folder in folders):
        raise DataError(
            f"{path}: is a link to {target}, outside of {folders[0]}; copy the file, or make its whole folder a link"
        )


def reason(error: BaseException) -> str:
    """Return what a library says is wrong, on one line, without the addresses of its objects in memory."""
    words = re.sub(r"<[^<>]*\bat 0x[0-9a-fA-F]+>", "the content", " ".join(str(error).split()))
    return words[:300] or type(error).__name__
