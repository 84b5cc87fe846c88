"""Log files for people: the JSON lines that workers and the driver write, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from aream.errors import AreamError

ALWAYS = frozenset({"time", "level", "logger", "message", "sweep", "host", "pid", "traceback"})


def log_text(folder: Path, key: str) -> Iterator[str]:
    """The log of a trial, shared stage or segmentation job (``sweep``: the driver's), oldest line first.

    Args:
        folder: the sweep's logs.
        key: or the beginning of one.

    Raises:
        AreamError: no log, or several, begin like this.
    """
    names = sorted({path.name.removesuffix(".1").removesuffix(".log") for path in folder.glob("*.log*")})
    found = [name for name in names if name == key] or [name for name in names if name.startswith(key)]
    if len(found) != 1:
        fitting = found or names
        shown = ", ".join(fitting[:10]) + (f" and {len(fitting) - 10} more" if len(fitting) > 10 else "")
        raise AreamError(
            f"--log {key}: {'several logs begin with it' if found else 'no such log'}; there are {shown or 'none'}"
        )
    for path in (folder / f"{found[0]}.log.1", folder / f"{found[0]}.log"):
        if path.exists():
            with path.open(errors="replace", encoding="utf-8") as lines:
                yield from (_shown(line.rstrip("\n")) for line in lines)


def _shown(line: str) -> str:
    """A line torn by a kill, or of an older version, stays as it is."""
    try:
        entry = json.loads(line)
        head = f"{entry['time']} {entry['level']} {entry['logger']}: {entry['message']}"
    except (ValueError, TypeError, KeyError):
        return line
    rest = " ".join(f"{name}={value}" for name, value in entry.items() if name not in ALWAYS)
    traceback = f"\n{entry['traceback']}" if entry.get("traceback") else ""
    return f"{head}{f'  [{rest}]' if rest else ''}{traceback}"
