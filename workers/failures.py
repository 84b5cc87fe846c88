"""Unexpected errors of a stage: their message, and whether another try may succeed."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch
from PIL import UnidentifiedImageError

from aream.engine.steps import is_out_of_memory
from aream.errors import AreamError, DataUnavailable, StageFailed, StoreUnavailable
from aream.system_errors import FULL
from workers.ranks.process_group import RankLost

LONGEST = 500
NOTE = "in stage "
OF_THE_MACHINE = ("DataLoader worker", "CUDA error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS", "NCCL")
"""Parts of the messages of torch's RuntimeErrors for a killed process or a failed GPU."""
ROOT = Path(__file__).resolve().parents[1]


def may_pass(error: BaseException) -> bool:
    """True if another try on the same inputs may succeed: the error came from a machine, disk, memory or network.

    What code raised by itself (ValueError, KeyError, AssertionError, ImportError...) it would raise again.
    """
    if isinstance(error, OSError):
        return not isinstance(error, UnidentifiedImageError) and error.errno not in FULL
    if isinstance(error, RankLost | DataUnavailable | EOFError | torch.AcceleratorError) or is_out_of_memory(error):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OF_THE_MACHINE)


def failure_of(key: str, error: AreamError | OSError) -> Exception:
    """What a stage is said to have failed with: ``StageFailed``, ``StoreUnavailable`` for a full disk, or the error
    itself where another try may go better."""
    if may_pass(error):
        return error
    if isinstance(error, AreamError):
        return StageFailed(key, str(error))
    if error.errno in FULL:
        return StoreUnavailable(f"{key}: {error.filename or 'disk'}: {error.strerror}")
    return StageFailed(key, f"{error.filename or ''}: {error.strerror or error}")


def note_stage(error: BaseException, key: str) -> None:
    """Note on an error which stage raised it: one that an input of the stage asked for raised keeps its own."""
    if stage_of(error) is None:
        error.add_note(f"{NOTE}{key}")


def stage_of(error: BaseException) -> str | None:
    """Key of the stage that raised an error; None where no stage had begun."""
    if isinstance(error, StageFailed):
        return error.key
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(NOTE) for note in notes if note.startswith(NOTE)), None)


def told(error: BaseException) -> str:
    """Return one line: type, message, and the line of our code that it came through last."""
    message = " ".join(str(error).split())
    message = message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}..."
    return f"{type(error).__name__}{': ' if message else ''}{message}{_place(error)}"


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _ours(frame.filename)]
    if not frames:
        return ""
    return f" (at {Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno})"


def _ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts
