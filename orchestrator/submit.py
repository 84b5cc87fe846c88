"""Send a sweep to the lab's cluster, and look after it there.

The YAML stays as it is. The output is followed until the job ends, unless it is detached.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from aream.errors import ConfigError
from orchestrator.console.command import DONE, INTERRUPTED, NOT_ALL_WELL, REFUSED, command, run
from orchestrator.console.parser import add_overrides, refuse_idle

if TYPE_CHECKING:
    from orchestrator.submission.targets.protocol import Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP.yaml", nargs="?")
    parser.add_argument("--to", metavar="TARGET", required=True, help="ray, kuberay or slurm")
    parser.add_argument(
        "--lab",
        metavar="LAB.yaml",
        default=os.environ.get("AREAM_LAB", "lab.yaml"),
        help="the file that describes the lab's cluster (default: $AREAM_LAB, else lab.yaml)",
    )
    add_overrides(parser)
    parser.add_argument("--image", help="container image, instead of the lab's")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    parser.add_argument("--detach", action="store_true", help="print the id and return; do not wait for the job")
    parser.add_argument("--status", metavar="ID", help="print the state of a job")
    parser.add_argument("--follow", metavar="ID", help="print a job's output until it ends; exit with its status")
    parser.add_argument("--stop", metavar="ID", help="have a job save its state and end")


@command(
    add_arguments,
    """
%(prog)s sweeps/thresholds.yaml --to slurm --dry-run
%(prog)s sweeps/thresholds.yaml --to ray
%(prog)s --follow ID --to ray
""",
    {
        DONE: "the job's own: all done",
        NOT_ALL_WELL: "the job's own: some trials failed",
        REFUSED: "nothing was sent, or the job's own: the sweep is invalid",
        INTERRUPTED: "the job was stopped, or only following it was interrupted: then it goes on",
    },
)
def main(options: argparse.Namespace) -> int:
    wishes = [options.sweep, options.status, options.follow, options.stop]
    if sum(wish is not None for wish in wishes) != 1:
        raise ConfigError("give a SWEEP.yaml, or one of --status, --follow and --stop with an ID")
    if options.sweep is None:
        refuse_idle(options, "of a sweep that is sent, and this looks after a job", "set", "image", "dry_run", "detach")
    return _act(options)


def _act(options: argparse.Namespace) -> int:
    from aream import discover
    from orchestrator.submission import targets
    from orchestrator.submission.lab import read_lab

    module = discover.load(targets, options.to)
    lab, config = read_lab(Path(options.lab), options.to)
    target: Target = module.open_target(config)
    if options.status is not None:
        print(f"{options.status}: {target.status(options.status)}")
        return DONE
    if options.stop is not None:
        target.stop(options.stop)
        print(f"{options.stop}: {target.status(options.stop)}")
        return DONE
    if options.follow is not None:
        return _follow(target, options.follow, options)
    from orchestrator.submission.describe import describe  # reads torch; looking after a job does without

    job = describe(Path(options.sweep), lab, options.set, options.image or config.image)
    if options.dry_run:
        print(target.render(job), end="")
        return DONE
    job_id = target.submit(job)
    print(f"submitted as {job_id}", flush=True)
    if options.detach:
        _say_how_to_go_on(job_id, options, sys.stdout)
        return DONE
    return _follow(target, job_id, options)


def _follow(target: Target, job_id: str, options: argparse.Namespace) -> int:
    try:
        return target.follow(job_id)
    except KeyboardInterrupt:
        print(f"\n{job_id} goes on", file=sys.stderr)
        _say_how_to_go_on(job_id, options, sys.stderr)
        return INTERRUPTED


def _say_how_to_go_on(job_id: str, options: argparse.Namespace, stream: TextIO) -> None:
    for wish in ("status", "follow", "stop"):
        print(
            f"{wish}: python -m orchestrator.submit --{wish} {shlex.quote(job_id)} --to {options.to}"
            f" --lab {shlex.quote(options.lab)}",
            file=stream,
        )


if __name__ == "__main__":
    run(main)
