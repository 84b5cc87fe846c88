"""report.html (self-contained) and report.md of a sweep, from its summary and the store; or its ranking as CSV.

python -m orchestrator.report NAME|SWEEP.yaml [--csv [FILE]]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.console.command import command, run

if TYPE_CHECKING:
    pass


@command
def main(arguments: Sequence[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.report", description="Write report.html and report.md."
    )
    parser.add_argument("sweep", help="name of a sweep under the runs folder, or its YAML")
    parser.add_argument("--runs", default="runs", help="the runs folder (default: runs; a YAML names its own)")
    parser.add_argument(
        "--csv",
        nargs="?",
        const="",
        metavar="FILE",
        help="write the ranking as CSV instead, a row a configuration and seed (default: ranking.csv beside the "
        "reports; -: print it)",
    )
    options = parser.parse_args(arguments)
    from orchestrator.workspace import locate

    workplace = locate(options.sweep, options.runs)
    content = _summary(workplace.summary_file)
    if options.csv is not None:
        _write_csv(content, options.csv or str(workplace.folder / "ranking.csv"))
        return 0
    from orchestrator.reporting.write import write_report

    for path in write_report(content, workplace.store(), workplace.folder)[:2]:
        print(path)
    return 0


def _summary(path: Path) -> dict[str, Any]:
    from aream.errors import AreamError
    from workers.processes.atomic_write import StateFile

    def parse(text: bytes) -> dict[str, Any]:
        found = json.loads(text)
        if not isinstance(found, dict) or not isinstance(found.get("ranking"), list):
            raise ValueError("need a ranking")
        return found

    content = StateFile(path, "the sweep's results", "run the sweep again to write it anew", parse).read()
    if content is None:
        raise AreamError(f"{path}: the sweep has no results yet")
    return content


def _write_csv(content: Mapping[str, Any], target: str) -> None:
    from aream.errors import AreamError
    from orchestrator.reporting.ranking_csv import ranking_csv
    from workers.processes.atomic_write import write_text

    text = ranking_csv(content)
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        write_text(Path(target), text)
    except OSError as error:
        raise AreamError(f"{target}: {error.strerror}") from error
    print(target)


if __name__ == "__main__":
    run(main)
