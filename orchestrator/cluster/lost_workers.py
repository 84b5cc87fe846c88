"""Describe in one line why Ray lost a task or an actor, and decide whether it is tried again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle

from workers.failures import LONGEST, may_pass, told

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.RaySystemError,
)
"""Ray's errors for a lost process, node or object."""
DETAIL = re.compile(r"(?:exit detail: |running low on memory|memory usage|died because)[^\n]*")


def worth_another_try(error: Exception) -> bool:
    """True if a task that ended with this error is to be tried again."""
    cause = getattr(error, "cause", None)
    return isinstance(error, LOST) or (isinstance(cause, Exception) and may_pass(cause))


def why(error: Exception | str) -> str:
    """Describe the end of a task: the error that it raised, or how its process ended."""
    if isinstance(error, str):
        lines = [line.strip() for line in error.splitlines() if line.strip()]
        return lines[-1][:LONGEST] if lines else "no reason is known"
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return told(cause)
    if isinstance(error, LOST):
        detail = DETAIL.search(str(error))
        name = type(error).__name__
        return f"its worker was lost ({name}{': ' + detail.group().strip()[:LONGEST] if detail else ''})"
    return told(error)


def why_trial(trial: Trial) -> str:
    """The last error of one of Tune's trials, read where Tune wrote it: what it hands out may not be there yet."""
    error: Any = None
    try:
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # not written, or of a class that cannot be read here: then as text
        path = Path(trial.error_file) if trial.error_file else None
        error = (
            path.read_text(errors="replace", encoding="utf-8")
            if path is not None and path.exists()
            else trial.get_error()
        )
    return why(error if error is not None else "")
