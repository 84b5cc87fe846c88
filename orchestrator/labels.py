"""Look at the pseudo-labels of a sweep in the web browser.

A page of this machine's shows the labels of every configuration, also while the sweep runs: filtered by class, IoU and
uncertainty, two configurations side by side, and labels made anew as layers and threshold are moved. It goes on until
Ctrl-C.
"""

from __future__ import annotations

import argparse

from orchestrator.console.command import DONE, REFUSED, command, run
from orchestrator.console.parser import add_sweep

LOOPBACK = ("127.0.0.1", "::1", "localhost")
THREADS = 4
"""Pictures made at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument("--port", type=int, default=5050, help="where it listens (default: 5050; 0: any that is free)")
    parser.add_argument(
        "--host",
        default=LOOPBACK[0],
        help=f"address that it listens on (default: {LOOPBACK[0]}, this machine only); on any other, the printed "
        "address bears a token without which nothing is shown",
    )


@command(
    add_arguments,
    """
%(prog)s thresholds
%(prog)s sweeps/thresholds.yaml --port 5051
%(prog)s thresholds --host 0.0.0.0
""",
    {REFUSED: "no such sweep, its data are not here, or the port is taken"},
)
def main(options: argparse.Namespace) -> int:
    import secrets

    from orchestrator.browser.serving import serve
    from orchestrator.workspace import locate

    token = None if options.host in LOOPBACK else secrets.token_urlsafe(24)
    serve(locate(options.sweep, options.runs), options.host, options.port, token, THREADS)
    return DONE


if __name__ == "__main__":
    run(main)
