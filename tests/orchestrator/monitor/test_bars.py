"""How far a sweep is, as a terminal and a pipe tell it."""

from __future__ import annotations

import re
import time

import pytest
from rich.console import Console

from orchestrator.monitor.bars import bars, ends_at, planned, progress_of, tally
from orchestrator.monitor.forecast import Forecast
from orchestrator.monitor.progress import ProgressDisplay, task_view
from orchestrator.monitor.state import SweepState

NOON = time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path, clock):
    """Three trials of which one took ten minutes; two segmentation jobs come later."""
    made = SweepState(tmp_path / "state.json", "s", clock, {"segmentation": 2}, ["val/map", "seg/miou"])
    for number in range(3):
        made.add(f"t{number}", f"trial {number}", "trial", epochs=4)
    made.update("t0", status="running")
    clock.now += 600
    made.update("t0", status="done")
    return made


def shown(view, width: int = 120) -> str:
    console = Console(width=width, highlight=False, force_terminal=False)
    with console.capture() as text:
        console.print(view)
    return text.get()


def test_what_is_done_and_what_comes_later(state):
    assert tally(state, "trial") == (1, 3)
    assert tally(state, "segmentation") == (0, 2)
    assert planned(state) == {"segmentation": 2}
    text = shown(task_view(state))
    assert "1 of 3" in text
    assert "0 of 2" in text
    assert "up to 2 more, chosen later" in text
    assert text.index("trials") < text.index("segmentation jobs")


def test_segmentation_rows_have_their_miou(state):
    state.add("seg", "#1 labels", "segmentation", 2)
    state.row("seg", {"seg/miou": 0.4321})
    assert planned(state) == {"segmentation": 1}
    assert "0.4321" in shown(task_view(state))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_terminal_shows_fewer_columns_of_the_tasks(state, width):
    for name in ("val/map", "seg/miou"):
        state.row("t0", {name: 0.4321})
    text = shown(task_view(state), width)
    assert all(len(line) <= width for line in text.splitlines())
    for number, status in enumerate(["done", "waiting", "waiting"]):
        assert re.search(rf"│ trial {number} +│ {status} ", text), text
    assert ("no room for" in text) == (width <= 80)
    assert "left" not in text.partition("no room for")[2], "nothing stands in it"


@pytest.mark.parametrize("height", [24, 40])
def test_a_table_ends_within_its_terminal(state, monkeypatch, height):
    for number in range(30):
        state.add(f"more{number}", f"method.alpha_low={number}, " + "long " * 30, "trial", 4)
    display = ProgressDisplay(state, ["val/map"])
    monkeypatch.setattr(display, "console", Console(width=120, height=height))
    text = shown(display.view())
    assert len(text.splitlines()) < height
    assert "up to 2 more, chosen later" in text
    assert text.count("trial ") < 33
    assert "│ trial        │ alpha_low=" in text


def test_a_finished_sweep_promises_nothing(state):
    state.phase = "finished"
    assert planned(state) == {}
    assert "0 of 2" not in shown(bars(state))
    assert "ends about" not in shown(bars(state))


def test_the_end_is_told_with_its_day_where_that_is_another(clock):
    assert ends_at(Forecast(3600, True), clock.now) == "ends about 13:00"
    assert ends_at(Forecast(86400, True), clock.now) == "ends about Thu 05 Mar 12:00"
    assert ends_at(Forecast(3600, False), clock.now) == ""
    assert ends_at(Forecast(0, True), clock.now) == ""


def test_a_pipe_gets_n_of_m_and_the_end(tmp_path, clock, capsys):
    made = SweepState(tmp_path / "state.json", "s", clock)
    for number in range(3):
        made.add(f"t{number}", f"trial {number}", "trial", epochs=4)
    display = ProgressDisplay(made, ["val/map"])
    made.update("t0", status="running")
    display.changed("t0")
    assert "of 3" not in capsys.readouterr().out
    clock.now += 600
    made.update("t0", status="done")
    display.changed("t0")
    assert "[1 of 3 trials, ends about 12:30]" in capsys.readouterr().out
    made.update("t1", status="failed", error="no memory")
    assert progress_of(made, made.tasks["t1"]).startswith("2 of 3 trials")
