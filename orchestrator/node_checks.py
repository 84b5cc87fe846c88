"""Every node of the cluster is looked at before the sweep asks one for anything: one table of what fails where.

    python -m orchestrator.node_checks SWEEP.yaml --address HOST:6379 [--set KEY=VALUE]

runs the checks alone and prints the table. Exit status: 0 the sweep can run there, 2 it cannot, or it is invalid.

A node that fails is not left out quietly: it would take trials and fail them, or make other bytes under the same keys.
Repair it, or take it out of the cluster (``ray stop`` there). A node whose resources no job of the sweep fits is not
asked for anything. Nodes that join later are not looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.entry import DONE, REFUSED, command, run
from orchestrator.node_table import Row, refused, render
from workers.node_report import Finding, disk_findings

if TYPE_CHECKING:
    from orchestrator.preflight import Prepared

TRACKING_S = 5.0
TITLE = "nodes that are to run the sweep"
ADVICE = "repair what fails, or run `ray stop` on that node; then run the same command again"


def check_nodes(prepared: Prepared, purpose: str, say: Callable[[str], None] = print) -> list[Row]:
    """A row for each node that is up, before them the driver's where it talks to a server.

    Args:
        purpose: of two checks at a time of one sweep, each has its own.
    """
    from orchestrator.node_probes import look_at_nodes

    storage = prepared.workplace.store().storage
    probe = f"probe/{purpose}-{hashlib.sha256(str(prepared.workplace.folder).encode()).hexdigest()[:16]}"
    storage.write(probe, b"of the driver")
    try:
        rows = look_at_nodes(prepared, probe, say)
    finally:
        storage.delete(probe)
    driver = _driver_row(prepared.tracking_uri)
    return [driver, *rows] if driver.checked else rows


def refuse_unfit(prepared: Prepared, say: Callable[[str], None] = print) -> None:
    """Check all nodes of the cluster; what is only worth knowing is said.

    Raises:
        ConfigError: a node fails; the message is the table.
    """
    from aream.errors import ConfigError

    rows = check_nodes(prepared, "sweep", say)
    if refused(rows):
        raise ConfigError(f"{render(rows, TITLE)}\n{ADVICE}")
    for row in rows:
        for finding in row.findings:
            say(f"warning: {row.name}: {finding.words}")


def refuse_unfit_machine(prepared: Prepared, say: Callable[[str], None] = print) -> None:
    """What a sweep on this machine alone can still fail at: all else was just looked at, and no GPU is touched.

    Raises:
        ConfigError: the sweep asks for a GPU, and torch has none.
    """
    for name in ("trial", "segmentation"):
        asked = getattr(prepared.spec.resources, name).gpus
        if asked and (name == "trial" or prepared.spec.segmentation_data is not None):
            _refuse_missing_gpu(name)
    for finding in disk_findings([prepared.workplace.folder / "logs", prepared.workplace.store().scratch]):
        say(f"warning: {finding.words}")


def _refuse_missing_gpu(job: str) -> None:
    import torch

    from aream.errors import ConfigError

    if torch.version.cuda is None:
        raise ConfigError(f"resources.{job}.gpu: torch {torch.__version__} is built without CUDA; install a CUDA build")
    if torch.cuda.device_count() == 0:
        raise ConfigError(f"resources.{job}.gpu: torch sees no GPU on this machine; nvidia-smi tells more")


def _driver_row(tracking_uri: str) -> Row:
    """Only the driver talks to the tracking server; rows wait in its spool while that is away."""
    row = Row("driver")
    if tracking_uri.startswith(("http://", "https://")):
        row.checked.add("tracking")
        try:
            urllib.request.urlopen(f"{tracking_uri.rstrip('/')}/health", timeout=TRACKING_S).close()
        except urllib.error.HTTPError as error:
            if error.code not in (401, 403):  # it answers; who may write is another question
                words = f"{tracking_uri} answers {error.code}; rows wait on disk until it takes them"
                row.findings.append(Finding("tracking", words, hard=False))
        except (OSError, ValueError) as error:
            words = f"{tracking_uri} does not answer ({error}); rows wait on disk until it does"
            row.findings.append(Finding("tracking", words, hard=False))
    return row


@command
def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.node_checks", description="Whether every node of a cluster can run a sweep."
    )
    parser.add_argument("sweep", metavar="SWEEP.yaml")
    parser.add_argument("--address", required=True, help="of the Ray cluster")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML")
    options = parser.parse_args(arguments)
    from orchestrator.preflight import prepare
    from orchestrator.ray_access import send_token_to_cluster
    from orchestrator.spec_reader import load_spec

    prepared = prepare(load_spec(Path(options.sweep), options.set))
    send_token_to_cluster()
    from orchestrator.cluster import connect, disconnect

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
