"""What a result cost: worker seconds of everything it was computed from, shared stages included."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.records import Records
from orchestrator.settings import Resource
from workers.stage import Row, Stage


def lineage_cost(stages: Iterable[Stage], store: Records, resource: Resource) -> Row:
    """``cost/seconds`` of the distinct stored stages and all they need, and ``cost/gpu_seconds`` at the trial's share.

    Read from the records, so a result answered from the store costs what it cost when it was computed.
    """
    distinct = {ancestor.key: ancestor for stage in stages for ancestor in stage.ancestry()}
    seconds = sum(store.record(key).seconds for key in distinct if store.has(key))
    return {"cost/seconds": seconds, "cost/gpu_seconds": seconds * resource.gpus}
