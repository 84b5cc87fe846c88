"""The record of a stage that has just run here: what it measured, with which code and on what."""

from __future__ import annotations

import logging
import math
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aream.config import canonical
from workers.artifacts.record import ArtifactRecord
from workers.processes.hardware import described
from workers.processes.provenance import code_revision, library_versions
from workers.stage_source import source_digest

if TYPE_CHECKING:
    from workers.stage import Row, Stage

log = logging.getLogger(__name__)


def record_of(stage: Stage, metrics: Row, rows: list[Row], seconds: float) -> ArtifactRecord:
    """``metrics`` that are no finite numbers are left out: what was made from nothing is no figure."""
    config = canonical(stage.config)
    assert isinstance(config, dict)  # a stage's Config is a dataclass
    found = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    for name in metrics.keys() - found.keys():
        log.warning("%s has no number for %s", stage.key, name)
    return ArtifactRecord(
        key=stage.key,
        stage=stage.name,
        version=stage.module.VERSION,
        config=config,
        fingerprints=dict(stage.fingerprints),
        inputs={name: parent.key for name, parent in stage.inputs.items()},
        metrics=found,
        history=rows,
        seconds=round(seconds, 3),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=code_revision(),
        host=socket.gethostname(),
        versions=library_versions(),
        device=described(stage.hardware, stage.module.COMPUTES_ON),
        source=source_digest(stage),
    )
