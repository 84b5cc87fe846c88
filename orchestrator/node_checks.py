"""Say whether every node of a cluster can run a sweep.

One table has what fails where. A sweep looks at them itself before it asks one for anything; this runs the checks
alone.

A node that fails is not left out quietly: it would take trials and fail them, or make other bytes under the same keys.
Repair it, or take it out of the cluster (``ray stop`` there). A node whose resources no job of the sweep fits is not
asked for anything. Nodes that join later are not looked at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orchestrator.console.command import DONE, REFUSED, command, run
from orchestrator.console.parser import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP.yaml")
    parser.add_argument("--address", required=True, help="of the Ray cluster")
    add_overrides(parser)


@command(
    add_arguments,
    "%(prog)s sweeps/thresholds.yaml --address head:6379",
    {DONE: "the sweep can run there", REFUSED: "it cannot, or it is invalid"},
)
def main(options: argparse.Namespace) -> int:
    from orchestrator.cluster.access import send_token_to_cluster
    from orchestrator.preflight.node_table import refused, render
    from orchestrator.preflight.nodes import ADVICE, TITLE, check_nodes
    from orchestrator.preflight.prepare import prepare
    from orchestrator.spec.reader import load_spec

    prepared = prepare(load_spec(Path(options.sweep), options.set))
    send_token_to_cluster()
    from orchestrator.cluster.connection import connect, disconnect

    connect(options.address, prepared.spec)
    try:
        rows = check_nodes(prepared, "command")
    finally:
        disconnect()
    print(render(rows, TITLE))
    if refused(rows):
        print(ADVICE, file=sys.stderr)
        return REFUSED
    return DONE


if __name__ == "__main__":
    run(main)
