"""Print the JSON schema of a sweep file, for editors that complete and check while typing.

VS Code (with YAML by Red Hat) and PyCharm read it where the file names it, as `aream init` writes:
`# yaml-language-server: $schema=sweep.schema.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from orchestrator.console.command import command, run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there (default: print it)")


@command(
    add_arguments,
    """
%(prog)s --out first/sweep.schema.json
""",
)
def main(options: argparse.Namespace) -> int:
    from orchestrator.spec.schema import sweep_schema
    from workers.processes.atomic_write import write_text

    text = json.dumps(sweep_schema(), indent=1, ensure_ascii=False)
    if options.out is None:
        print(text)
    else:
        write_text(options.out, f"{text}\n")
        print(options.out)
    return 0


if __name__ == "__main__":
    run(main)
