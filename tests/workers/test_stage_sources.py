"""No stage's code changes without a word: VERSION is raised, or the bytes are declared to be the same."""

from __future__ import annotations

import json

import pytest
import stage_sources


def test_every_stage_runs_the_code_that_was_declared():
    known, found = json.loads(stage_sources.FILE.read_text()), stage_sources.today()
    changed = stage_sources.undeclared(known, found)
    assert not changed, (
        f"{', '.join(changed)}: other code under the same VERSION. Raise VERSION in workers/stages/ where the same "
        "Config may give other bytes, then `python tests/workers/stage_sources.py`; where no byte changes, "
        f"`python tests/workers/stage_sources.py --same-bytes {' '.join(changed)}`"
    )
    assert known == found, "a VERSION was raised or a stage came or went: run `python tests/workers/stage_sources.py`"


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "stage_sources.json"
    monkeypatch.setattr(stage_sources, "FILE", path)
    monkeypatch.setattr(stage_sources, "today", lambda: {"a": {"version": 1, "source": "y"}})
    return path


def test_other_code_is_taken_where_it_is_declared_only(file, capsys):
    file.write_text('{"a": {"version": 1, "source": "x"}}')
    assert stage_sources.main([]) == 1
    assert "--same-bytes a" in capsys.readouterr().err
    assert stage_sources.main(["--same-bytes", "b"]) == 2
    assert json.loads(file.read_text())["a"]["source"] == "x"
    assert stage_sources.main(["--same-bytes", "a"]) == 0
    assert json.loads(file.read_text())["a"]["source"] == "y"


@pytest.mark.parametrize("before", ['{"a": {"version": 0, "source": "x"}}', "{}"])
def test_a_raised_version_and_a_new_stage_need_no_more(file, before):
    file.write_text(before)
    assert stage_sources.main([]) == 0
    assert json.loads(file.read_text()) == {"a": {"version": 1, "source": "y"}}
