"""Which errors are worth another try, and how they are told."""

from __future__ import annotations

import errno

import pytest
import torch
from PIL import UnidentifiedImageError
from small_trials import TRIAL, Work, fingerprint

from aream.errors import DataError, DataUnavailable
from workers.failures import may_pass, stage_of, told
from workers.pipelines import training_stage
from workers.ranks.process_group import RankLost
from workers.stages import warmup


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ValueError("bits must be in 1..8"), False),
        (TypeError("a"), False),
        (KeyError("a"), False),
        (AssertionError(), False),
        (ModuleNotFoundError("No module named 'x'"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ZeroDivisionError("division by zero"), False),
        (DataError("a.jpg: no such file"), False),
        (DataUnavailable("a.jpg: cannot be read at the moment (Stale file handle)"), True),
        (UnidentifiedImageError("cannot identify image file"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (TimeoutError("timed out"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RankLost("process 1 ended with status -9"), True),
    ],
)
def test_what_a_machine_did_may_pass_and_what_code_raised_does_not(error, again):
    assert may_pass(error) is again


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_one_line_names_type_message_and_place():
    line = told(raised(ValueError("bits must be\n  in 1..8")))
    assert line.startswith("ValueError: bits must be in 1..8 (at tests/workers/test_failures.py:")
    assert told(raised(AssertionError())).startswith("AssertionError (at ")
    assert told(KeyError("lr")) == "KeyError: 'lr'"
    assert len(told(ValueError("x" * 10_000))) < 600


@pytest.mark.parametrize(
    "error", [KeyError("lr"), OSError(errno.EIO, "Input/output error", "/data/a.jpg"), DataUnavailable("a.jpg: stale")]
)
def test_a_stage_lets_what_is_not_ours_through_as_it_is(tmp_path, monkeypatch, error):
    caught = caught_of_warmup(tmp_path, monkeypatch, error)
    assert caught is error


@pytest.mark.parametrize("error", [KeyError("lr"), DataError("a.jpg: no image"), UnidentifiedImageError("a.jpg")])
def test_what_would_fail_again_names_the_stage_that_raised_it(tmp_path, monkeypatch, error):
    """Of the one that was asked for or of its input."""
    key = training_stage(TRIAL, fingerprint).inputs["warmup"].key
    assert stage_of(caught_of_warmup(tmp_path, monkeypatch, error)) == key
    assert stage_of(KeyError("lr")) is None


def caught_of_warmup(tmp_path, monkeypatch, error) -> BaseException:
    def run(config, inputs, out, context):
        raise error

    monkeypatch.setattr(warmup, "run", run)
    try:
        Work(tmp_path).runner.run(training_stage(TRIAL, fingerprint))
    except Exception as caught:
        return caught
    pytest.fail("it raised nothing")
