"""Pause, resume or stop a sweep, or one trial of it, from another terminal.

    python -m orchestrator.control NAME|SWEEP.yaml pause|resume|stop [--trial KEY]

What runs saves its checkpoint and gives its slot back; nothing is lost. A paused sweep waits for `resume`; a stopped
one ends (exit status 130) and goes on where it was when its command is run again. A stopped trial is left out, in
later runs too, until `resume --trial`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from orchestrator.entry import command, run

WISH = {"pause": "pause", "resume": "run", "stop": "stop"}


@command
def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.control", description="Pause, resume or stop a sweep."
    )
    parser.add_argument("sweep", help="name of a sweep under the runs folder, or its YAML")
    parser.add_argument("wish", choices=list(WISH))
    parser.add_argument("--trial", metavar="KEY", help="one trial, by its key or the beginning of it")
    parser.add_argument("--runs", default="runs", help="the runs folder (default: runs; a YAML names its own)")
    options = parser.parse_args(arguments)
    from orchestrator.locate import locate
    from orchestrator.orders import Orders

    workplace = locate(options.sweep, options.runs)
    orders = Orders.read(workplace.orders_file)
    if options.trial is None:
        orders.sweep = WISH[options.wish]
        what = f"sweep {workplace.name}"
    else:
        what = _trial(workplace.state_file, options.trial)
        if options.wish == "resume":
            orders.trials.pop(what, None)
        else:
            orders.trials[what] = WISH[options.wish]
    orders.write(workplace.orders_file)
    print(f"{what}: {options.wish}; `python -m orchestrator.status` shows when it is so")
    return 0


def _trial(state_file: Path, beginning: str) -> str:
    """The key of the one trial that begins so.

    Raises:
        AreamError: none does, or several; or the sweep has not been started.
    """
    from aream.errors import ConfigError
    from orchestrator.state import read_state

    keys = [task["key"] for task in read_state(state_file)["tasks"] if task["kind"] == "trial"]
    found = [key for key in keys if key.startswith(beginning) or key.partition("-")[2].startswith(beginning)]
    if len(found) != 1:
        raise ConfigError(f"--trial: {beginning!r} names {len(found)} trials; there are: {', '.join(keys) or 'none'}")
    return str(found[0])


if __name__ == "__main__":
    run(main)
