"""Files that come from elsewhere, bounded before they are read."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from aream.errors import DataError, DataUnavailable
from aream.system_errors import LASTING

MAX_BYTES = 2**28
SYSTEM_ERROR = re.compile(r"os error (\d+)")
"""What libraries written in Rust say of an error of the system."""


def read_bounded(path: Path, most: int = MAX_BYTES) -> bytes:
    """The content of a regular file; pipes and devices may never end.

    Raises:
        DataError: missing, not readable, not a regular file, or of more than ``most`` bytes.
        DataUnavailable: a machine, disk or network is at fault.
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
        raise unreadable(path, error) from error


def bounded_lines(path: Path, most: int = 2**20) -> Iterator[bytes]:
    """The lines of a regular file, one at a time.

    Raises:
        DataError: missing, not readable, not a regular file, or with a line of more than ``most`` bytes.
        DataUnavailable: a machine, disk or network is at fault.
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
        raise unreadable(path, error) from error


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
        raise unreadable(path, error, "is a link that leads nowhere") from error
    if not any(target.is_relative_to(folder.resolve()) for folder in folders):
        raise DataError(
            f"{path}: is a link to {target}, outside of {folders[0]}; copy the file, or make its whole folder a link"
        )


def unreadable(path: Path | str, error: Exception, words: str | None = None) -> DataError:
    """What an error met in reading a file is raised as: of whatever is no fault of the file's, ``DataUnavailable``.

    Args:
        error: of the system, or of a library that read the file.
        words: what is wrong with the file; None: what the error says.
    """
    met = _of_the_system(path, error)
    if met is None or met.errno in LASTING:
        return DataError(f"{path}: {words or f'cannot be read ({met.strerror if met else reason(error)})'}")
    return DataUnavailable(f"{path}: cannot be read at the moment ({met.strerror})")


def _of_the_system(path: Path | str, error: Exception) -> OSError | None:
    """The system's own error that a library's tells of; None: it is about the content."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if told := SYSTEM_ERROR.search(str(error)):
        return OSError(int(told[1]), reason(error))
    if isinstance(error, FileNotFoundError):  # which safetensors says of whatever kept it from opening a file
        try:
            open(path, "rb").close()
        except OSError as own:
            return own
        return OSError(errno.EAGAIN, "it could not be opened, and now it can")
    return None


def reason(error: BaseException) -> str:
    """Return what a library says is wrong, on one line, without the addresses of its objects in memory."""
    words = re.sub(r"<[^<>]*\bat 0x[0-9a-fA-F]+>", "the content", " ".join(str(error).split()))
    return words[:300] or type(error).__name__
