"""What every target of ``submit`` promises, over all that there are."""

from __future__ import annotations

import pytest
from labs import LAB, described

from aream import discover
from aream.errors import ConfigError
from orchestrator.submission import targets
from orchestrator.submission.targets.protocol import Target

SECRET = "not-for-any-file-8731"
METHODS = ("render", "submit", "status", "follow", "stop")


@pytest.fixture(params=discover.names(targets))
def name(request) -> str:
    return request.param


@pytest.fixture
def section(name) -> dict[str, dict]:
    """A target whose section has no defaults has an example in the lab file of the tests."""
    return {} if name in LAB else {name: {}}


def opened(name: str, folder, section, **changes) -> tuple[Target, object]:
    job, config = described(folder, target=name, **section, **changes)
    return discover.load(targets, name).open_target(config), job


def test_what_would_be_sent_can_be_read_without_asking_anyone(name, section, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("PATH", str(tmp_path))  # none of a cluster's programs is there
    target, job = opened(name, tmp_path, section, shared=True)
    assert all(callable(getattr(target, method)) for method in METHODS)
    said = target.render(job)
    assert said == target.render(job)
    assert job.name in said
    assert "train.lr" in said, "the sweep's own text"
    assert SECRET not in said
    assert "orchestrator.sweep" in said


def test_a_section_with_a_strange_key_is_told_with_its_place(name, section, tmp_path):
    strange = {name: {**LAB.get(name, {}), "strange": 1}}
    with pytest.raises(ConfigError, match="strange"):
        described(tmp_path, target=name, **strange)
