"""What every target of ``submit`` promises, over all that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from labs import write_lab, write_sweep

from aream import discover
from aream.errors import ConfigError
from orchestrator.submission import targets
from orchestrator.submission.describe import describe
from orchestrator.submission.lab import read_lab

EXAMPLE = Path(__file__).resolve().parents[2] / "docker" / "lab.example.yaml"
"""Has a section of every target."""
SECRET = "not-for-any-file-8731"


@pytest.mark.parametrize("name", discover.names(targets))
def test_what_would_be_sent_can_be_read_without_asking_anyone(name, tmp_path, monkeypatch):
    lab, section = read_lab(EXAMPLE, name)
    job = describe(write_sweep(tmp_path), lab, (), section.image)
    assert job.secrets
    for variable in job.secrets:
        monkeypatch.setenv(variable, SECRET)
    monkeypatch.setenv("PATH", str(tmp_path))  # none of a cluster's programs is there
    target = discover.load(targets, name).open_target(section)
    assert all(callable(getattr(target, method)) for method in ("submit", "status", "follow", "stop"))
    said = target.render(job)
    assert said == target.render(job)
    assert job.name in said
    assert "train.lr" in said, "the sweep's own text"
    assert "orchestrator.sweep" in said
    assert SECRET not in said


@pytest.mark.parametrize("name", discover.names(targets))
def test_a_section_with_a_strange_key_is_told(name, tmp_path):
    with pytest.raises(ConfigError, match="strange"):
        read_lab(write_lab(tmp_path, **{name: {"strange": 1}}), name)
