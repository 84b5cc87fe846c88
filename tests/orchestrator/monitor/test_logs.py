from __future__ import annotations

import json
import logging

import pytest

from aream.errors import AreamError, Interrupted
from orchestrator.monitor.logs import log_text
from orchestrator.status import main
from orchestrator.workspace import LOG_BYTES, Workspace

KEY = "train_cam-0123456789abcdef"
log = logging.getLogger("tested")


@pytest.fixture
def place(tmp_path):
    return Workspace(store_uri=None, runs=tmp_path / "runs", name="swept")


def test_a_log_reads_as_text(place):
    def train():
        with place.logged(KEY, trial=KEY):
            log.info("epoch %d", 1, extra={"stage": "warmup-1"})
            raise ValueError("odd number of heads")

    with pytest.raises(ValueError, match="odd"):
        train()
    text = list(log_text(place.log_folder, KEY))
    assert "INFO tested: epoch 1" in text[0]
    assert f"trial={KEY}" in text[0]
    assert "stage=warmup-1" in text[0]
    assert "ERROR" in text[1]
    assert "Traceback" in text[1]
    assert "ValueError: odd number of heads" in text[1]


def test_a_trial_that_was_asked_to_stop_leaves_no_traceback(place):
    with pytest.raises(Interrupted), place.logged(KEY):
        raise Interrupted("stopped as asked")
    (line,) = map(json.loads, place.log_file(KEY).read_text().splitlines())
    assert (line["level"], line["message"]) == ("INFO", "stopped as asked")
    assert "traceback" not in line


@pytest.mark.slow
def test_a_log_that_turned_over_reads_in_order_and_stays_bounded(place):
    long = "x" * 10_000
    with place.logged(KEY):
        for number in range(1000):
            log.info("%d %s", number, long)
    shown = [int(line.split("tested: ")[1].split(" ")[0]) for line in log_text(place.log_folder, KEY)]
    assert shown == list(range(shown[0], 1000))
    assert sum(path.stat().st_size for path in place.log_folder.iterdir()) <= 2 * LOG_BYTES


def test_lines_that_are_no_json_stay_as_they_are(place):
    place.log_folder.mkdir(parents=True)
    place.log_file(KEY).write_text('2026-01-01 INFO old: a line\n{"time": "torn\n[]\n{}\n')
    assert list(log_text(place.log_folder, KEY)) == ["2026-01-01 INFO old: a line", '{"time": "torn', "[]", "{}"]


def test_status_prints_the_log_that_a_key_begins(place, capsys, monkeypatch):
    for key in (KEY, "train_cam-fedcba9876543210"):
        with place.logged(key):
            log.info("for %s", key)
    with place.logged("sweep"):
        log.info("planned")
    place.state_file.write_text("{}")
    arguments = ["swept", "--runs", str(place.runs), "--log"]
    assert main([*arguments, "train_cam-0"]) == 0
    assert f"for {KEY}" in capsys.readouterr().out
    assert main([*arguments, "sweep"]) == 0
    assert "planned" in capsys.readouterr().out
    assert main([*arguments, "train_cam-"]) == 2
    assert f"several logs begin with it; there are {KEY}, train_cam-fed" in capsys.readouterr().err
    assert main([*arguments, "warmup-1"]) == 2
    assert "no such log; there are sweep, train_cam-" in capsys.readouterr().err


def test_warnings_stay_on_standard_error_where_asked(place, capsys):
    with place.logged("sweep", aloud=True):
        log.info("quiet")
        log.warning("the server is away")
    with place.logged(KEY):
        log.warning("a worker's")
    assert capsys.readouterr().err == "the server is away\n"


def test_no_log_at_all(place):
    with pytest.raises(AreamError, match="no such log; there are none"):
        list(log_text(place.log_folder, "sweep"))
