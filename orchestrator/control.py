"""Pause, resume or stop a sweep, or one trial of it.

To be run from another terminal.

What runs saves its checkpoint and gives its slot back; nothing is lost. A paused sweep waits for `resume`; a stopped
one ends (exit status 130) and goes on where it was when its command is run again. A sweep that does not run takes no
orders: its command starts it. A paused or stopped trial stays so, in later runs too, until
`resume --trial`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.console.command import command, run
from orchestrator.console.parser import add_sweep

STATE_AFTER = {"pause": "pause", "resume": "run", "stop": "stop"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument("action", choices=list(STATE_AFTER))
    parser.add_argument("--trial", metavar="KEY", help="one trial, by its key or the beginning of it")


@command(
    add_arguments,
    """
%(prog)s thresholds pause
%(prog)s thresholds resume
%(prog)s thresholds stop --trial train_cam-3eca
""",
)
def main(options: argparse.Namespace) -> int:
    from aream.errors import ConfigError
    from orchestrator.monitor.control_file import ControlFile
    from orchestrator.status import observed
    from orchestrator.workspace import locate

    workspace = locate(options.sweep, options.runs)
    orders = ControlFile.read(workspace.control_file)
    state = observed(workspace)
    runs = state["alive"] is not False  # whether a driver on another machine does cannot be seen from here
    if options.trial is None:
        if not runs:
            raise ConfigError(
                f"{workspace.folder}: this sweep does not run ({state['phase']}), so nothing was changed; running its"
                " command again goes on with what is left"
            )
        orders.sweep = STATE_AFTER[options.action]
        what = f"sweep {workspace.name}"
    else:
        what = _trial(state["tasks"], options.trial)
        if options.action == "resume":
            orders.trials.pop(what, None)
        else:
            orders.trials[what] = STATE_AFTER[options.action]
    orders.write(workspace.control_file)
    when = (
        "`python -m orchestrator.status` shows when it has taken effect"
        if runs
        else "the sweep does not run; this counts from when its command is run again"
    )
    print(f"{what}: {options.action}; {when}")
    return 0


def _trial(tasks: Sequence[Mapping[str, Any]], beginning: str) -> str:
    """The key of the one trial that begins so.

    Raises:
        ConfigError: none does, or several.
    """
    from aream.errors import ConfigError

    keys = [task["key"] for task in tasks if task["kind"] == "trial"]
    found = [key for key in keys if key.startswith(beginning) or key.partition("-")[2].startswith(beginning)]
    if len(found) != 1:
        raise ConfigError(f"--trial: {beginning!r} names {len(found)} trials; there are: {', '.join(keys) or 'none'}")
    return str(found[0])


if __name__ == "__main__":
    run(main)
