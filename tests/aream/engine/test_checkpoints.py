"""When a training's state is saved, on a clock of the test's."""

from __future__ import annotations

import pytest

from aream.engine.checkpoints import SHARE, Checkpoints
from aream.errors import Interrupted


class Loop:
    """A training whose steps, epochs and saves take as long as the test says."""

    def __init__(self, every_s: float, save_s: float) -> None:
        self.now, self.save_s, self.saves, self.asked = 100.0, save_s, [], False
        self.checkpoints = Checkpoints(self.save, every_s, stop=lambda: self.asked, clock=lambda: self.now)

    def save(self, state):
        self.now += self.save_s
        self.saves.append(state["work"])

    def run(self, call, seconds: float, times: int) -> list[float]:
        """Which pieces of work were followed by a save."""
        self.saves = []
        for work in range(times):
            self.now += seconds
            call(lambda work=work: {"work": work})
        return self.saves


def test_long_epochs_are_all_kept():
    loop = Loop(every_s=60.0, save_s=1)
    assert loop.run(loop.checkpoints.after_epoch, 300, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("save_s", [0.05, 0.2])
def test_short_epochs_are_kept_as_often_as_costs_little(save_s):
    loop, seconds = Loop(every_s=60.0, save_s=save_s), 1.0
    saves = loop.run(loop.checkpoints.after_epoch, seconds, 400)
    assert saves[0] == 0, "the first is not known to be dear"
    spent = save_s * len(saves)
    assert spent <= SHARE * 400 * seconds + 2 * save_s
    assert spent >= 0.8 * SHARE * 400 * seconds, "no rarer than that"


def test_dear_checkpoints_still_limit_what_can_be_lost():
    loop = Loop(every_s=60.0, save_s=5)
    saves = loop.run(loop.checkpoints.after_epoch, 10, 30)
    assert saves == [0, 6, 12, 18, 24]


def test_inside_an_epoch_by_the_clock_since_the_last_one_of_any_kind():
    loop = Loop(every_s=60.0, save_s=0)
    assert loop.run(loop.checkpoints.after_step, 25, 6) == [2, 5]
    loop.run(loop.checkpoints.after_epoch, 25, 1)
    assert loop.saves == [0]
    assert loop.run(loop.checkpoints.after_step, 25, 3) == [2]


def test_asked_to_stop_it_saves_at_once():
    loop = Loop(every_s=60.0, save_s=0)
    loop.asked = True
    with pytest.raises(Interrupted):
        loop.run(loop.checkpoints.after_step, 1, 1)
    assert loop.saves == [0]
