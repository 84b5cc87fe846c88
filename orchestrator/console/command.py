"""Behaviour shared by all commands: help, exit status, one line for each error, signals, and a closed output."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from aream.system_errors import FULL, LASTING
from orchestrator.console import signals
from orchestrator.console.parser import Parser
from orchestrator.console.permissions import DENIED, permission_advice
from orchestrator.console.streams import lasting_streams

DONE, NOT_ALL_WELL, REFUSED, FAULT, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES = {
    DONE: "done",
    NOT_ALL_WELL: "done, and something is wrong: trials failed, data or artifacts are damaged",
    REFUSED: "refused: what was given cannot work; the message says what to change",
    FAULT: "an error of this program: the message names it and the file with its traceback",
    INTERRUPTED: "ended early (Ctrl-C, SIGTERM, SIGHUP, a budget, a disk, store or cluster that is gone):"
    " the same command goes on",
}
"""Exit statuses of all commands."""

Act = Callable[[argparse.Namespace], int]
Arguments = Callable[[argparse.ArgumentParser], None]
AGAIN = "run the same command again to go on"
SERVERS = {
    "ray": "the Ray cluster",
    "mlflow": "MLflow",
    "optuna": "the record of the search",
    "sqlalchemy": "the database",
    "botocore": "the store",
    "boto3": "the store",
    "s3transfer": "the store",
    "urllib3": "the network",
    "requests": "the network",
    "grpc": "the Ray cluster",
}
"""Packages whose errors tell of something outside -> what that is, for people."""
_faults: list[Path] = []
"""Folders for the traceback of an error of this program, the last one first."""


class Command:
    """A command of a module, whose docstring is its description: called with arguments it returns its exit status,
    with every error told in one line."""

    def __init__(self, act: Act, add_arguments: Arguments, examples: str, statuses: Mapping[int, str]) -> None:
        self.act, self.add_arguments = act, add_arguments
        self._name = Path(act.__globals__.get("__file__") or "command").stem
        self._texts = texts(act.__globals__.get("__doc__"), examples, statuses)

    def __call__(self, arguments: Sequence[str], prog: str | None = None) -> int:
        """``prog``: what a person called it by; None: its module."""
        _keep_matplotlib_calm()
        with lasting_streams(), signals.interrupted_by_signals():
            try:
                return self.act(self.parser(prog).parse_args(arguments))
            except KeyboardInterrupt:
                print(f"interrupted; {AGAIN}", file=sys.stderr)
                return INTERRUPTED
            except Exception as error:
                words, status = explained(error, self._name)
                print(words, file=sys.stderr)
                return status

    def parser(self, prog: str | None = None) -> Parser:
        parser = Parser(prog=prog or f"python -m orchestrator.{self._name}", **self._texts)
        self.add_arguments(parser)
        return parser

    def add_to(self, commands: argparse._SubParsersAction[Any], name: str) -> None:
        """Make it a sub-command of another parser."""
        first = self._texts["description"].partition("\n")[0]
        self.add_arguments(commands.add_parser(name, help=first.rstrip("."), **self._texts))


def texts(description: str | None, examples: str, statuses: Mapping[int, str] = STATUSES) -> dict[str, Any]:
    """The parts of a command's help beside its options: description, examples and exit statuses."""
    lines = "".join(f"  {line}\n" for line in examples.strip().splitlines())
    ends = "".join(
        textwrap.fill(f"{status:<4} {words}", 100, initial_indent="  ", subsequent_indent=" " * 7) + "\n"
        for status, words in statuses.items()
    )
    return {"description": (description or "").strip(), "epilog": f"examples:\n{lines}\nexit status:\n{ends}"}


def command(
    add_arguments: Arguments, examples: str, statuses: Mapping[int, str] | None = None
) -> Callable[[Act], Command]:
    """Make a command of what acts on its options.

    Args:
        examples: a line each, of which ``%(prog)s`` is what the command is called by.
        statuses: what exit statuses mean here more closely than in ``STATUSES``.
    """
    return lambda act: Command(act, add_arguments, examples, {**STATUSES, **(statuses or {})})


def run(main: Command, arguments: Sequence[str] | None = None, prog: str | None = None) -> NoReturn:
    """A command as this process, to its end; ``arguments``: None: the process's own."""
    signals.end_on_signals()
    status = INTERRUPTED
    try:
        status = main(sys.argv[1:] if arguments is None else arguments, prog)
        signals.NOW.status = status
    except KeyboardInterrupt:  # a second one, while the first was told
        signals.NOW.status = status
    sys.exit(status)


def tracebacks_go_to(folder: Path) -> None:
    """Set the folder for the traceback of an error of this program."""
    _faults.append(folder)


def explained(error: Exception, name: str) -> tuple[str, int]:
    """One error in words for people, and the exit status."""
    from aream.errors import AreamError, DataUnavailable, Interrupted, StoreUnavailable

    if isinstance(error, StoreUnavailable | Interrupted | DataUnavailable):
        return f"{error}\nnothing that is stored is lost; {AGAIN}", INTERRUPTED
    if isinstance(error, AreamError):
        return str(error), REFUSED
    server = _server(error)
    if server is not None:
        return f"{server}: {_one_line(error)}; nothing that is stored is lost; {AGAIN}", INTERRUPTED
    if isinstance(error, OSError):
        return _of_the_system(error)
    kept = _keep_traceback(error, name)
    where = f"its traceback is in {kept}" if kept else "".join(traceback.format_exception(error)).rstrip()
    return f"an error of this program, {_one_line(error)}; nothing that is stored is lost; {where}", FAULT


def _of_the_system(error: OSError) -> tuple[str, int]:
    place = error.filename2 or error.filename
    said = f"{place}: {error.strerror}" if place is not None else _one_line(error)
    if place is None and "temporary directory" in str(error):  # Python tries them all, and says no reason
        full = any(_why_not(folder) in FULL for folder in ("/tmp", "/var/tmp", os.environ.get("TMPDIR"), "."))
        said = f"no folder for temporary files can be written ({error.strerror}); free some space, or set TMPDIR"
        return said, INTERRUPTED if full else REFUSED
    if error.errno in FULL:
        return f"{said if place is not None else f'disk: {error.strerror}'}; free some space and run again", INTERRUPTED
    if error.errno in DENIED and isinstance(place, str | bytes):
        return f"{said}: {permission_advice(Path(os.fsdecode(place)))}", REFUSED
    if error.errno in LASTING:
        return said, REFUSED
    return f"{said}; nothing that is stored is lost; {AGAIN}", INTERRUPTED


def _server(error: Exception) -> str | None:
    """Name the external service that a library's error is about; None if it is about none."""
    for kind in type(error).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in SERVERS:
            return SERVERS[package]
    return None


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__


def _keep_traceback(error: Exception, name: str) -> Path | None:
    from workers.processes.masking import masked

    text = masked("".join(traceback.format_exception(error)))
    for folder in (*reversed(_faults), Path(tempfile.gettempdir())):
        try:
            handle, path = tempfile.mkstemp(prefix=f"{name}-error-", suffix=".txt", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            continue
        return Path(path)
    return None


def _keep_matplotlib_calm() -> None:
    """It warns in three lines where no home can be written, and works as well in a folder for now."""
    if "MPLCONFIGDIR" in os.environ or _why_not(os.path.expanduser("~")) is None:
        return
    with contextlib.suppress(OSError):  # nothing can be written anywhere: what needs to says so
        folder = tempfile.mkdtemp(prefix="matplotlib-")
        os.environ["MPLCONFIGDIR"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _why_not(folder: str | None) -> int | None:
    """Return the errno if no non-empty file can be written in the folder, else None; permissions do not show that the
    disk is full."""
    try:
        with tempfile.TemporaryFile(dir=folder or ".") as file:
            file.write(bytes(4096))
    except OSError as error:
        return error.errno
    return None
