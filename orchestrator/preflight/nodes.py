"""Check that every node that is up can run a sweep, before the sweep uses any."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.preflight.node_table import Row, refused, render
from workers.checks.node import NodeFinding, disk_findings

if TYPE_CHECKING:
    from orchestrator.preflight.prepare import Prepared
    from orchestrator.tracking.backends.protocol import Backend


TITLE = "nodes that are to run the sweep"


ADVICE = "repair what fails, or run `ray stop` on that node; then run the same command again"


def check_nodes(prepared: Prepared, purpose: str, say: Callable[[str], None] = print) -> list[Row]:
    """A row for each node that is up, before them the driver's where it talks to a server.

    Args:
        purpose: of two checks at a time of one sweep, each has its own.
    """
    from orchestrator.preflight.node_probes import look_at_nodes

    storage = prepared.workspace.store().storage
    probe = f"probe/{purpose}-{hashlib.sha256(str(prepared.workspace.folder).encode()).hexdigest()[:16]}"
    storage.write(probe, b"of the driver")
    try:
        rows = look_at_nodes(prepared, probe, say)
    finally:
        storage.delete(probe)
    driver = _driver_row(prepared.tracking)
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
    """Check what can still stop a sweep on this machine alone; all else is checked already, and no GPU is used.

    Raises:
        ConfigError: the sweep asks for a GPU, and torch has none.
    """
    for name in ("trial", "segmentation"):
        asked = getattr(prepared.spec.resources, name).gpus
        if asked and (name == "trial" or prepared.spec.segmentation_data is not None):
            _refuse_missing_gpu(name)
    for finding in disk_findings([prepared.workspace.folder / "logs", prepared.workspace.store().scratch]):
        say(f"warning: {finding.words}")


def _refuse_missing_gpu(job: str) -> None:
    import torch

    from aream.errors import ConfigError

    if torch.version.cuda is None:
        raise ConfigError(f"resources.{job}.gpu: torch {torch.__version__} is built without CUDA; install a CUDA build")
    if torch.cuda.device_count() == 0:
        raise ConfigError(f"resources.{job}.gpu: torch sees no GPU on this machine; nvidia-smi tells more")


def _driver_row(tracking: Backend | None) -> Row:
    """Only the driver talks to the tracking server; rows wait in its spool while that is away."""
    row = Row("driver")
    if tracking is not None and tracking.remote:
        row.checked.add("tracking")
        if why := tracking.check():
            row.findings.append(NodeFinding("tracking", why, hard=False))
    return row
