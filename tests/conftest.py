"""Shared by all tests: one thread, where the real images are, how long a session may go on."""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

import aream  # noqa: F401  # before any test imports timm: beside a CPU build of torch, torchvision needs it
from aream.errors import AreamError
from workers import plugins

pytest_plugins = ("store_fixtures",)
ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)
# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The same of a closed terminal under nohup: a handler, unlike ignoring, is not inherited.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)
STARTED = time.monotonic()
ALLOWED_S = 60 * float(os.environ.get("AREAM_TEST_MINUTES", "inf"))
"""No test begins later than this after the session did."""
LONGEST = (
    "test_paper_sweeps",
    "test_a_kill_every_few_seconds_changes_nothing[1]",
    "test_submit_slurm",
    "test_submit_ray",
    "test_chaos",
    "test_image",
    "test_lab",
)
"""Files and tests that come last, in this order: where time is short, each has a part of it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], metavar="PATH.py", help="a plug-in to test")


def pytest_configure(config: pytest.Config) -> None:
    try:
        plugins.activate([plugins.read_plugin(place, Path.cwd()) for place in config.getoption("--plugin")])
    except AreamError as error:
        raise pytest.UsageError(f"--plugin: {error}") from error


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return min((LONGEST.index(name) for name in (item.path.stem, item.name) if name in LONGEST), default=-1)

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.monotonic() - STARTED > ALLOWED_S:
        pytest.skip(f"no time left: AREAM_TEST_MINUTES allows {ALLOWED_S / 60:g}")
    # What a test draws, and how torch computes it, is no matter of which tests this process ran before.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    yield
    if (passing := _passing(item)) and (nextitem is None or _passing(nextitem) != passing):
        gc.collect()  # what libraries left is warned of while warnings pass, not in whatever test comes next


def _passing(item: pytest.Item) -> list[tuple[str, ...]]:
    """Filters of a test's own marks."""
    return [mark.args for mark in item.iter_markers("filterwarnings")]


@pytest.fixture
def data_root() -> Path:
    """The folder of real data: AREAM_TEST_DATA, else ../shared/data."""
    folder = Path(os.environ.get("AREAM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set AREAM_TEST_DATA")
    return folder
