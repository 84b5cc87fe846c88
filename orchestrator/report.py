"""Write the reports of a sweep, or its ranking as CSV, or its tables for a paper.

report.html (self-contained) and report.md are made from its summary and the store.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.console.command import command, run
from orchestrator.console.parser import add_sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--csv",
        nargs="?",
        const="",
        metavar="FILE",
        help="write the ranking as CSV instead, a row a configuration and seed (default: ranking.csv beside the "
        "reports; -: print it)",
    )
    instead.add_argument(
        "--latex",
        nargs="?",
        const="",
        metavar="FILE",
        help="write every table of the report for a paper instead, LaTeX with booktabs (default: tables.tex beside the "
        "reports; -: print them)",
    )


@command(
    add_arguments,
    """
%(prog)s thresholds
%(prog)s thresholds --csv
%(prog)s thresholds --csv -
%(prog)s thresholds --latex
""",
)
def main(options: argparse.Namespace) -> int:
    from orchestrator.workspace import locate

    workspace = locate(options.sweep, options.runs)
    content = read_summary(workspace.summary_file)
    if options.csv is not None:
        from orchestrator.reporting.ranking_csv import ranking_csv

        _write(ranking_csv(content), options.csv or str(workspace.folder / "ranking.csv"))
        return 0
    from orchestrator.reporting.write import latex_tables, write_report

    if options.latex is not None:
        _write(latex_tables(content, workspace.store()), options.latex or str(workspace.folder / "tables.tex"))
        return 0

    for path in write_report(content, workspace.store(), workspace.folder)[:2]:
        print(path)
    return 0


def read_summary(path: Path) -> dict[str, Any]:
    """What a sweep ended with.

    Raises:
        AreamError: it has not ended, or the file is damaged.
    """
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


def _write(text: str, target: str) -> None:
    from aream.errors import AreamError
    from workers.processes.atomic_write import write_text

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
