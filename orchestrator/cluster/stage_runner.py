"""Run stages in a worker's process."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cluster.cores import usable_cores
from orchestrator.workspace import Workspace
from workers.images import ImageStore
from workers.processes.memory_limits import usable_memory
from workers.processes.runtime import Runtime
from workers.stage import Row, Stage
from workers.stage_runner import StageRunner

MOST_LOADERS = 16
"""Processes that load images for one stage: more than make a batch ready before a GPU has done the last one."""


def stage_runner(
    workspace: Workspace,
    *,
    cpu: float,
    gpu: float,
    report: Callable[[Stage, Row], None] = lambda stage, row: None,
    stop: Callable[[], bool] = lambda: False,
    images: ImageStore | None = None,
) -> StageRunner:
    """A stage runner on this machine, its process prepared for the cores and the (share of a) GPU it was given: one is
    its own, the others load images.

    Args:
        images: keeps decoded ones; None: this process.
    """
    cores = max(1, int(cpu))
    runtime = Runtime(
        gpu=gpu > 0,
        gpu_share=min(gpu, 1.0),
        threads=cores,
        loader_workers=min(cores - 1, MOST_LOADERS),
        memory_bytes=int(usable_memory() * min(1.0, cpu / usable_cores())),
    )
    runtime.prepare()
    return StageRunner(workspace.store(), runtime, report, stop, images=images)
