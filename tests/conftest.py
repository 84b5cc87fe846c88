"""Shared by all tests: one thread, and where the real images are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)


@pytest.fixture
def data_root() -> Path:
    """The folder of real data: AREAM_TEST_DATA, else ../shared/data."""
    folder = Path(os.environ.get("AREAM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; set AREAM_TEST_DATA")
    return folder
