"""Stages as Ray tasks: the shared prelude before the trials, the segmentation jobs after them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ray

from orchestrator.settings import Resource
from orchestrator.workplace import Workplace
from workers.stage import Row, Stage

log = logging.getLogger(__name__)

POLL_S = 1.0


@dataclass(frozen=True)
class TaskEvent:
    """What became of a stage: ``running`` with a row of metrics, ``done``, or ``failed`` with the reason."""

    stage: Stage
    status: str
    row: Row | None = None
    error: str | None = None


@ray.remote(num_cpus=0)
class ProgressBoard:
    """Collects rows of running stages until the driver fetches them."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Row]] = []

    def post(self, key: str, row: Row) -> None:
        self.rows.append((key, row))

    def take(self) -> list[tuple[str, Row]]:
        rows, self.rows = self.rows, []
        return rows


@ray.remote(max_retries=2)
def run_stage_task(stage: Stage, workplace: Workplace, threads: int, gpu: bool, board: object) -> None:
    """Run one stage and whatever it needs that is not stored yet."""
    with workplace.logged(stage.key):
        runner = workplace.runner(
            threads=threads,
            gpu=gpu,
            report=lambda reporting, row: board.post.remote(stage.key, row),  # type: ignore[attr-defined]
        )
        runner.run(stage)


def run_stages(
    stages: Sequence[Stage],
    workplace: Workplace,
    resource: Resource,
    on_event: Callable[[TaskEvent], None],
) -> dict[str, str]:
    """Run ``stages``, each after those of its inputs that are in the list; returns key -> error of those that failed.

    A stage whose input failed is not started and counts as failed with that reason.
    """
    by_key = {stage.key: stage for stage in stages}
    waiting = dict(by_key)
    errors: dict[str, str] = {}
    running: dict[ray.ObjectRef, Stage] = {}
    board = ProgressBoard.remote()  # type: ignore[attr-defined]
    while waiting or running:
        for stage in [stage for stage in waiting.values() if _ready(stage, waiting, running)]:
            del waiting[stage.key]
            failed = next((key for key in _inputs(stage) if key in errors), None)
            if failed is not None:
                errors[stage.key] = f"its input {failed} failed"
                on_event(TaskEvent(stage, "failed", error=errors[stage.key]))
                continue
            task = run_stage_task.options(num_cpus=resource.cpu, num_gpus=resource.gpu, name=stage.key).remote(
                stage, workplace, max(1, int(resource.cpu)), resource.gpu > 0, board
            )
            running[task] = stage
            on_event(TaskEvent(stage, "running"))
        done, _ = ray.wait(list(running), num_returns=1, timeout=POLL_S) if running else ([], [])
        for key, row in ray.get(board.take.remote()):
            on_event(TaskEvent(by_key[key], "running", row=row))
        for task in done:
            stage = running.pop(task)
            try:
                ray.get(task)
            except ray.exceptions.RayError as error:
                errors[stage.key] = _reason(error)
                on_event(TaskEvent(stage, "failed", error=errors[stage.key]))
            else:
                on_event(TaskEvent(stage, "done"))
    ray.kill(board)
    return errors


def _inputs(stage: Stage) -> list[str]:
    return [ancestor.key for ancestor in stage.ancestry() if ancestor.key != stage.key]


def _ready(stage: Stage, waiting: dict[str, Stage], running: dict[ray.ObjectRef, Stage]) -> bool:
    unfinished = {*waiting, *(other.key for other in running.values())}
    return not any(key in unfinished for key in _inputs(stage))


def _reason(error: Exception) -> str:
    """The last line a person needs: the stage's own message, not Ray's traceback."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return str(cause)
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
