"""The code that each stage runs under its VERSION, kept beside the tests: a change is declared, one way or the other.

python tests/workers/stage_sources.py                          # after VERSION was raised, or a stage was added
python tests/workers/stage_sources.py --same-bytes NAME ...    # other code, the same bytes for every Config
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aream import discover
from workers import stages
from workers.stage_source import any_source_digest

FILE = Path(__file__).with_name("stage_sources.json")
Sources = dict[str, dict[str, int | str]]
"""Stage -> its VERSION, and the digest of its code."""


def today() -> Sources:
    return {
        name: {"version": discover.load(stages, name).VERSION, "source": any_source_digest(name)}
        for name in discover.names(stages)
    }


def undeclared(known: Sources, found: Sources) -> list[str]:
    """Stages whose code is another under the VERSION that is known."""
    return [
        name
        for name, now in found.items()
        if name in known and now["version"] == known[name]["version"] and now["source"] != known[name]["source"]
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Declare the code that stages run.")
    parser.add_argument("--same-bytes", nargs="+", default=[], metavar="NAME", help="stages, or all")
    options = parser.parse_args(arguments)
    known, found = json.loads(FILE.read_text()) if FILE.exists() else {}, today()
    same = list(found) if options.same_bytes == ["all"] else options.same_bytes
    if wrong := sorted(set(same) - set(found)):
        print(f"--same-bytes: no stage {', '.join(wrong)}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    left = [name for name in undeclared(known, found) if name not in same]
    if left:
        print(f"{', '.join(left)}: other code under the same VERSION; raise it where the same Config may give other "
              f"bytes, else --same-bytes {' '.join(left)}", file=sys.stderr)  # fmt: skip
        return 1
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
