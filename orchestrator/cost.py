"""What a result cost: worker seconds of everything it was computed from, shared stages included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.records import Records
from workers.metric import Metric
from workers.stage import Row, Stage

if TYPE_CHECKING:
    from orchestrator.settings import Resource

SECONDS, GPU_SECONDS = "cost/seconds", "cost/gpu_seconds"
COST = (
    Metric(
        SECONDS, "worker seconds of everything the labels were computed from, shared stages in full", "s", "min",
        shown="report",
    ),
    Metric(GPU_SECONDS, "the same at the trials' share of a GPU", "s", "min", shown="report"),
)  # fmt: skip


def lineage_cost(stages: Iterable[Stage], store: Records, resource: Resource) -> Row:
    """``cost/seconds`` of the distinct stored stages and all they need, and ``cost/gpu_seconds`` at the trial's share.

    Read from the records, so a result answered from the store costs what it cost when it was computed.
    """
    distinct = {ancestor.key: ancestor for stage in stages for ancestor in stage.ancestry()}
    seconds = sum(store.record(key).seconds for key in distinct if store.has(key))
    return {SECONDS: seconds, GPU_SECONDS: seconds * resource.gpus}
