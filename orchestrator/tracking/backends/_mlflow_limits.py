"""MLflow's limits: names without most special characters, and no long texts, which it refuses or cuts."""

from __future__ import annotations

import re

NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_\-. /:]")
LONGEST_PARAM = 6000
LONGEST_RUN_NAME = 250
"""Of its table in a database; SQLite alone takes more."""
LONGEST = 8000
"""Characters of a tag in MLflow."""
LEFT_OUT = "... and {count} more lines: report.html and report.md among this run's artifacts have everything."


def allowed_name(name: str) -> str:
    """Replace the characters that MLflow refuses in the name of a metric or parameter."""
    return NOT_IN_A_NAME.sub("_", name)


def allowed_value(value: object) -> str:
    """Cut a parameter's value to the length that MLflow allows."""
    return str(value)[:LONGEST_PARAM]


def allowed_run_name(name: str) -> str:
    """Shorten a name in its middle: names that begin alike often differ at their ends."""
    if len(name) <= LONGEST_RUN_NAME:
        return name
    half = (LONGEST_RUN_NAME - 1) // 2
    return f"{name[: LONGEST_RUN_NAME - 1 - half]}…{name[-half:]}"


def fitted(text: str, longest: int = LONGEST) -> str:
    """The text without as many of its lines as it is too long, and a line that says so: the last rows of its table
    first, then the last of its links, then of its other lines. What stays is whole, so its links work."""
    lines = text.split("\n")
    kept = [True] * len(lines)
    rows = [place for place, line in enumerate(lines) if line.startswith("|")][2:]
    links = [place for place in range(1, len(lines)) if lines[place].startswith("[")]
    others = [place for place in range(1, len(lines)) if place not in (*rows, *links)]
    size = len(text)
    for place in [*reversed(rows), *reversed(links), *reversed(others)]:
        if size <= longest:
            break
        kept[place] = False
        size = len(_joined(lines, kept))
    return text if all(kept) and size <= longest else _joined(lines, kept)[:longest]


def _joined(lines: list[str], kept: list[bool]) -> str:
    first = next((place for place, stays in enumerate(kept) if not stays), len(lines))
    found = [line for line, stays in zip(lines[:first], kept, strict=False) if stays]
    if first < len(lines):
        in_table = lines[first].startswith("|")
        found += [*([""] if in_table else []), LEFT_OUT.format(count=kept.count(False)), *([""] if in_table else [])]
    return "\n".join([*found, *(line for line, stays in zip(lines[first:], kept[first:], strict=True) if stays)])
