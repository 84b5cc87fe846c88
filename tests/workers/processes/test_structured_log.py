from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime

import pytest

from workers.processes.structured_log import JsonLines, working_on

log = logging.getLogger("tested")


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    handler.setFormatter(JsonLines())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    log.removeHandler(handler)
    handler.close()


def test_a_line_says_when_where_and_what_it_belongs_to(lines):
    before = datetime.now(UTC)
    with working_on(sweep="s", trial="train_cam-1"):
        with working_on(stage="warmup-2"):
            log.info("ran %d steps", 3, extra={"seconds": 1.5, "_of_a_library": 7})
        log.warning("done")
    log.info("idle")
    first, second, third = lines()
    assert first["message"] == "ran 3 steps"
    assert first["seconds"] == 1.5
    assert (first["level"], first["logger"]) == ("INFO", "tested")
    assert (first["sweep"], first["trial"], first["stage"]) == ("s", "train_cam-1", "warmup-2")
    assert abs((datetime.fromisoformat(first["time"]) - before).total_seconds()) < 60
    assert second["trial"] == "train_cam-1"
    assert "stage" not in second
    assert not any(name.startswith("_") for name in first)
    assert not {"sweep", "trial", "stage"} & third.keys()


def test_what_a_thread_logs_belongs_to_the_trial_of_its_process(lines):
    with working_on(trial="t"):
        thread = threading.Thread(target=lambda: log.info("from a loader"))
        thread.start()
        thread.join()
    assert lines()[0]["trial"] == "t"


@pytest.mark.parametrize(
    "text",
    ["two\nlines", '"quoted" \\ {}', "bell \x07 escape \x1b[31m", "Ωmega \ud800", ""],
    ids=["lines", "quotes", "control", "surrogate", "empty"],
)
def test_any_message_is_one_line_of_json(text):
    """Formatted, not logged: what pytest captures must be text that encodes."""
    line = JsonLines().format(logging.makeLogRecord({"msg": "%s", "args": (text,)}))
    assert line.encode().splitlines() == [line.encode()]
    assert json.loads(line)["message"] == text


def test_an_exception_brings_its_traceback(lines):
    try:
        raise ValueError("no such layer")
    except ValueError:
        log.exception("failed")
    (line,) = lines()
    assert "ValueError: no such layer" in line["traceback"]
    assert "test_structured_log.py" in line["traceback"]


def test_a_value_that_json_does_not_know_is_text(lines, tmp_path):
    log.info("read", extra={"path": tmp_path})
    assert lines()[0]["path"] == str(tmp_path)
