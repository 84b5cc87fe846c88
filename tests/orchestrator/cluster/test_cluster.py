from __future__ import annotations

import pytest

from aream.errors import ConfigError
from orchestrator.cluster.connection import connect
from orchestrator.spec.reader import load_spec


def test_a_ray_that_cannot_start_here_says_why(tmp_path, monkeypatch):
    """Its sockets lie in the temporary folder, and their names have room for 107 bytes."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray sets it, for every test after this one
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("name: x\n")
    with pytest.raises(ConfigError, match=r"does not start on this machine, tried 3 times: .*107 bytes"):
        connect(None, load_spec(sweep))
