"""Ray's errors as one line for people, and which of them are worth another try."""

from __future__ import annotations

import errno

import pytest
import ray
from ray.exceptions import NodeDiedError, RayTaskError, TaskUnschedulableError, WorkerCrashedError

from aream.errors import DataUnavailable
from orchestrator.cluster.lost_workers import why, worth_another_try


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("run_stage_task", "Traceback ...\nlast line", cause)


@pytest.mark.parametrize(
    ("error", "again", "text"),
    [
        (WorkerCrashedError(), True, "its worker was lost (WorkerCrashedError"),
        (NodeDiedError("node gone"), True, "its worker was lost (NodeDiedError"),
        (ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."), True,
         "running low on memory"),
        (ray.exceptions.LocalRayletDiedError(), True, "its worker was lost (LocalRayletDiedError"),
        (task_error(OSError(errno.EIO, "Input/output error", "/data/a.jpg")), True, "/data/a.jpg"),
        (task_error(DataUnavailable("/data/a.jpg: stale")), True, "DataUnavailable: /data/a.jpg: stale"),
        (task_error(ValueError("bits must be in 1..8")), False, "ValueError: bits must be in 1..8"),
        (TaskUnschedulableError("no such node"), False, "TaskUnschedulableError"),
        ("Failure # 1\nTraceback\n\nValueError: from a text\n", None, "ValueError: from a text"),
        ("", None, "no reason is known"),
    ],
)  # fmt: skip
def test_each_is_told_and_judged(error, again, text):
    assert text in why(error)
    assert "\n" not in why(error)
    if again is not None:
        assert worth_another_try(error) is again
