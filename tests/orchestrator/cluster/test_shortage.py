from __future__ import annotations

import pytest

from orchestrator.cluster.shortage import PATIENCE_S, Shortage
from orchestrator.spec.settings import Resource


class Waiting:
    """A shortage with a clock in the test's hand."""

    def __init__(self):
        self.now, self.told = 0.0, []
        self.free = {"CPU": (3.0, 8.0), "GPU": (0.0, 2.0)}
        self.shortage = Shortage(
            Resource(cpu=4.0, gpu=0.5, custom={"a100": 1.0}), lambda: self.free, self.told.append, lambda: self.now
        )

    def look(self, after: float, **state: bool) -> None:
        self.now += after
        self.shortage.look(**{"wanted": True, "running": False, **state})


@pytest.fixture
def waiting():
    return Waiting()


def test_what_is_missing_is_told_once_and_taken_back(waiting):
    for _ in range(5):
        waiting.look(PATIENCE_S / 2)
    assert waiting.told == [
        "waiting for resources: need CPU 4, GPU 0.5, a100 1 on one node; "
        "free in the cluster: CPU 3 of 8, GPU 0 of 2, a100 0 of 0"
    ]
    waiting.look(1, running=True)
    waiting.look(1, running=True)
    assert waiting.told[1:] == [None]


@pytest.mark.parametrize("between", [{"running": True}, {"wanted": False}])
def test_a_turn_in_between_starts_the_time_anew(waiting, between):
    waiting.look(0)
    waiting.look(PATIENCE_S - 1)
    waiting.look(0, **between)
    waiting.look(1)
    waiting.look(PATIENCE_S - 1)
    assert waiting.told == []
    waiting.look(1)
    assert len(waiting.told) == 1


def test_a_worker_that_only_starts_is_no_shortage():
    waiting = Waiting()
    waiting.free = {"CPU": (8.0, 8.0), "GPU": (2.0, 2.0), "a100": (1.0, 1.0)}
    waiting.look(0)
    waiting.free = {"CPU": (0.0, 8.0), "GPU": (0.0, 2.0), "a100": (0.0, 1.0)}  # it was given
    for _ in range(4):
        waiting.look(PATIENCE_S)
    assert waiting.told == []
    waiting.look(PATIENCE_S)  # nothing starts for so long: others were quicker
    assert len(waiting.told) == 1
