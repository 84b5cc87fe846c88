"""Points that cannot run now come back and run later; the source never learns of it."""

from __future__ import annotations

import pytest
from ray.tune.search import Searcher

from orchestrator.monitor.tasks import COMPUTED_ELSEWHERE
from orchestrator.plan.planner import TrialPlan
from orchestrator.run.requeue import DeferredError, RequeueingSearcher
from orchestrator.search.searchers import ListedPoints
from workers.stage import Stage


class Told(ListedPoints):
    """A list that remembers what it was told."""

    def __init__(self, count: int) -> None:
        super().__init__(
            [
                TrialPlan({"method.alpha_low": number / 10}, {}, 0, train=Stage("train", {}), variants=())
                for number in range(count)
            ]
        )
        self.told = []

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told.append((trial_id, result, error))


class Desk:
    def __init__(self, count: int) -> None:
        self.problem = DeferredError()
        self.points, self.blocked, self.gone, self.looks = Told(count), set(), set(), 0
        self.broken: set[float] = set()
        self.shut = self.resting = False
        self.gate = RequeueingSearcher(
            self.points,
            self.problem,
            poll=self.look,
            closed=lambda: self.shut,
            paused=lambda: self.resting,
            fails=lambda config: self.value(config) in self.broken,
            can_run=lambda config, awaited: self.value(config) not in self.blocked,
            cancelled=lambda config: self.value(config) in self.gone,
            dropped=lambda config: self.dropped.append(self.value(config)),
        )
        self.dropped: list[float] = []

    def look(self) -> None:
        self.looks += 1

    @staticmethod
    def value(config):
        return config["values"]["method.alpha_low"]


def test_without_trouble_it_is_the_source():
    desk = Desk(2)
    assert [desk.value(desk.gate.suggest(name)) for name in "ab"] == [0.0, 0.1]
    assert desk.gate.suggest("c") is None  # one of those running may come back
    for name in "ab":
        desk.gate.on_trial_complete(name, {"complete": 1.0})
    assert desk.gate.suggest("c") == Searcher.FINISHED
    assert [told[0] for told in desk.points.told] == ["a", "b"]
    assert desk.looks == 4


@pytest.mark.parametrize(
    "why", [{COMPUTED_ELSEWHERE: "warmup-0123456789abcdef"}, {"paused": 1.0}, {"away": "no answer"}]
)
def test_what_came_back_is_given_out_again_when_it_may_run(why):
    desk = Desk(2)
    desk.gate.suggest("a")
    desk.blocked = {0.0}
    desk.gate.on_trial_complete("a", why)
    assert desk.value(desk.gate.suggest("b")) == 0.1  # the slot goes to the next point meanwhile
    desk.gate.on_trial_complete("b", {"complete": 1.0})
    assert desk.gate.suggest("c") is None
    desk.blocked = set()
    assert desk.value(desk.gate.suggest("d")) == 0.0
    desk.gate.on_trial_complete("d", {"complete": 1.0})
    assert desk.gate.suggest("e") == Searcher.FINISHED
    assert [(name, error) for name, _, error in desk.points.told] == [("b", False), ("a", False)]


def test_what_was_stopped_while_it_waited_is_dropped():
    desk = Desk(1)
    desk.gate.suggest("a")
    desk.gate.on_trial_complete("a", {"paused": 1.0})
    desk.gone = {0.0}
    assert desk.gate.suggest("b") is None
    assert desk.gate.suggest("b") == Searcher.FINISHED
    assert desk.points.told == [("a", None, True)]
    assert desk.dropped == [0.0]  # whoever shows trials would take it for paused


def test_what_needs_something_that_failed_never_runs():
    """Neither what is new, nor what waited for somebody else who computed it, and failed."""
    desk = Desk(3)
    desk.gate.suggest("a")
    desk.gate.on_trial_complete("a", {COMPUTED_ELSEWHERE: "warmup-0123456789abcdef"})
    desk.broken = {0.0, 0.1}
    assert [desk.gate.suggest(name) for name in "bc"] == [None, None]
    assert desk.points.told == [("a", None, True), ("c", None, True)]
    assert desk.value(desk.gate.suggest("d")) == 0.2
    desk.gate.on_trial_complete("d", {"complete": 1.0})
    assert desk.gate.suggest("e") == Searcher.FINISHED


def test_a_paused_gate_waits():
    desk = Desk(1)
    desk.resting = True
    assert desk.gate.suggest("a") is None
    desk.resting = False
    assert desk.value(desk.gate.suggest("a")) == 0.0


def test_a_closed_gate_gives_nothing_out():
    desk = Desk(3)
    desk.gate.suggest("a")
    desk.shut = True
    assert desk.gate.suggest("b") == Searcher.FINISHED


def test_what_the_source_cannot_take_is_kept_and_raised_at_the_next_look():
    desk = Desk(1)

    def full(trial_id, result=None, error=False):
        raise OSError("no space left for the record of the search")

    desk.points.on_trial_complete = full
    desk.gate.suggest("a")
    desk.gate.on_trial_complete("a", {"complete": 1.0})
    with pytest.raises(OSError, match="no space left"):
        desk.problem.raise_pending()
    assert not desk.gate.running
