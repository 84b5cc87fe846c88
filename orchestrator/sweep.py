"""Plan, run or resume, rank and report a sweep.

Running it again resumes it: what is finished comes from the store.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aream.errors import ConfigError
from orchestrator.console.command import (
    DONE,
    INTERRUPTED,
    NOT_ALL_WELL,
    REFUSED,
    command,
    run,
    tracebacks_go_to,
)
from orchestrator.console.parser import add_overrides

if TYPE_CHECKING:
    from orchestrator.preflight.prepare import Prepared
    from orchestrator.tracking.tracker import Tracker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP.yaml")
    parser.add_argument("--plan", action="store_true", help="show what would run, and run nothing")
    parser.add_argument(
        "--why", action="store_true", help="with --plan: what tells each stage to run from the nearest stored one"
    )
    parser.add_argument("--json", action="store_true", help="with --plan: as JSON")
    add_overrides(parser)
    parser.add_argument("--address", help="an existing Ray cluster; default: a local one, on loopback only")
    parser.add_argument("--fail-fast", action="store_true", help="end the sweep with the first failed trial")
    parser.add_argument(
        "--reread", action="store_true", help="read data and weights again, though sizes and times are as they were"
    )
    parser.add_argument("--fresh", action="store_true", help="compute everything anew, whatever is stored")


@command(
    add_arguments,
    """
%(prog)s sweeps/thresholds.yaml
%(prog)s sweeps/thresholds.yaml --plan --why
%(prog)s sweeps/thresholds.yaml --set train.lr=1e-4 --set 'seeds=[0, 1, 2]'
""",
    {DONE: "all done", NOT_ALL_WELL: "some trials failed; they are named, with their logs"},
)
def main(options: argparse.Namespace) -> int:
    for name in ("why", "json"):
        if getattr(options, name) and not options.plan:
            raise ConfigError(f"--{name}: is about a plan: give --plan too, without which the sweep would run")
    if not options.plan:
        _say(f"reading {options.sweep}")
    # Imported only now: --help answers before torch is read.
    from orchestrator.preflight.prepare import prepare
    from orchestrator.spec.reader import load_spec

    spec = load_spec(Path(options.sweep), options.set)
    if options.fail_fast:
        spec = dataclasses.replace(spec, limits=dataclasses.replace(spec.limits, failures=1))
    tracebacks_go_to(spec.runs_dir / spec.name / "logs")
    if not options.plan:
        _say("checking data, weights and the store")
    prepared = prepare(spec, reread=options.reread, fresh=options.fresh)
    if not options.plan:
        return _run(prepared, options)
    from orchestrator.preflight.fresh_start import begun_anew
    from orchestrator.preflight.preview import print_plan, summarise
    from orchestrator.search.record import known_points

    planner, workspace = prepared.planner, prepared.workspace
    recorded = known_points(planner, workspace.folder) if spec.search and not options.fresh else ()
    workspace = dataclasses.replace(workspace, after=math.inf) if options.fresh else begun_anew(workspace)
    print_plan(summarise(planner, workspace.store(), recorded, why=options.why), as_json=options.json)
    return DONE


def _say(text: str) -> None:
    """A phase, from the first second on: what follows may take some."""
    print(text if sys.stdout.isatty() else f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _run(prepared: Prepared, options: argparse.Namespace) -> int:
    from orchestrator.reporting.terminal import print_answer, print_results
    from orchestrator.run.session import run_sweep

    workspace = prepared.workspace
    outcome, tracker = run_sweep(prepared, address=options.address, fresh=options.fresh)
    content = json.loads(workspace.summary_file.read_text(encoding="utf-8"))
    print_results(content)
    print(f"report: {workspace.folder / 'report.html'}")
    _say_what_is_untracked(tracker, outcome.untracked)
    if prepared.tracking:
        print(f"browse: {prepared.tracking.browse()}")
    print_answer(content)
    for key, reason in outcome.failures.items():
        print(f"failed: {key}: {reason} (log: {workspace.log_file(key)})", file=sys.stderr)
    if outcome.ended:
        print(f"ended early: {outcome.ended}; run the same command again to go on", file=sys.stderr)
        if not outcome.failures:
            return INTERRUPTED
    if outcome.failures or outcome.unranked:
        return NOT_ALL_WELL
    return REFUSED if outcome.untracked and tracker.permanent else DONE


def _say_what_is_untracked(tracker: Tracker, left: int) -> None:
    if left and tracker.permanent:
        print(
            f"tracking: {left} events wait in {tracker.spool_dir}: {tracker.where}: {tracker.permanent};"
            " then run the same command again to send them",
            file=sys.stderr,
        )
    elif left:
        print(f"tracking: {left} events wait for {tracker.where}; run the same command again to send them")
    if tracker.refused:
        print(f"tracking: {tracker.where} refused {tracker.refused} events; they are kept in {tracker.refused_file}")


if __name__ == "__main__":
    run(main)
