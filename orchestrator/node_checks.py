"""Every node of the cluster is looked at before the sweep asks one for anything: one table of what fails where.

    python -m orchestrator.node_checks SWEEP.yaml --address HOST:6379 [--set KEY=VALUE]

runs the checks alone and prints the table. Exit status: 0 the sweep can run there, 2 it cannot, or it is invalid.

A node that fails is not left out quietly: it would take trials and fail them, or make other bytes under the same keys.
Repair it, or take it out of the cluster (``ray stop`` there). A node whose resources no job of the sweep fits is not
asked for anything. Nodes that join later are not looked at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.console.command import DONE, REFUSED, command, run
from orchestrator.preflight.node_table import refused, render
from orchestrator.preflight.nodes import ADVICE, TITLE, check_nodes

if TYPE_CHECKING:
    pass


@command
def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.node_checks", description="Whether every node of a cluster can run a sweep."
    )
    parser.add_argument("sweep", metavar="SWEEP.yaml")
    parser.add_argument("--address", required=True, help="of the Ray cluster")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML")
    options = parser.parse_args(arguments)
    from orchestrator.cluster.access import send_token_to_cluster
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
