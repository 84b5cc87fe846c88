from __future__ import annotations

from pathlib import Path

import pytest

import sweeps


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with a sweep that ran once, undisturbed."""
    folder: Path = tmp_path_factory.mktemp("finished")
    sweeps.run(sweeps.write_small(folder))
    return folder
