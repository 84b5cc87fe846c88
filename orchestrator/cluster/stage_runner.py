"""Run stages in a worker's process."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.workspace import Workspace
from workers.processes.runtime import Runtime
from workers.stage import Row, Stage
from workers.stage_runner import StageRunner


def stage_runner(
    workspace: Workspace,
    *,
    cpu: float,
    gpu: float,
    report: Callable[[Stage, Row], None] = lambda stage, row: None,
    stop: Callable[[], bool] = lambda: False,
) -> StageRunner:
    """A stage runner on this machine, its process prepared for the cores and the (share of a) GPU it was given."""
    runtime = Runtime(
        gpu=gpu > 0, gpu_share=min(gpu, 1.0), threads=max(1, int(cpu)), loader_workers=workspace.loader_workers
    )
    runtime.prepare()
    return StageRunner(workspace.store(), runtime, report, stop)
