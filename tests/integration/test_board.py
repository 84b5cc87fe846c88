"""The line between workers and driver on a real Ray."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from aream.errors import Interrupted
from orchestrator.run.channel import Heartbeat, WorkerChannel, WorkerEnd

pytestmark = pytest.mark.integration

CPUS = 2
PATIENCE_S = 120
LONGEST_S = 5 * PATIENCE_S
"""Of a task that hears of no order."""


@pytest.fixture(scope="module")
def channel() -> Iterator[WorkerChannel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        ray.init("local", num_cpus=CPUS, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
        try:
            yield WorkerChannel()
        finally:
            ray.shutdown()


def test_a_task_that_asks_at_every_step_keeps_its_core(channel):
    """A task that waits for an answer gives its core to the next one: more would run than there are cores."""

    @ray.remote
    def work(number: int, actor: Any) -> tuple[float, float]:
        began = time.time()
        with WorkerEnd(actor, str(number)) as line:
            while time.time() - began < 4:
                time.sleep(0.01)
                line.stop()
        return began, time.time()

    spans = ray.get([work.remote(number, channel.actor) for number in range(3 * CPUS)])
    assert max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans) <= CPUS


def test_an_order_to_stop_arrives(channel):
    @ray.remote
    def work(key: str, actor: Any) -> float:
        began = time.time()
        with contextlib.suppress(Interrupted), WorkerEnd(actor, key) as line:
            while not line.stop() and time.time() - began < LONGEST_S:
                time.sleep(0.01)
        return time.time() - began

    stopped, spared = work.remote("stopped", channel.actor), work.remote("spared", channel.actor)
    begun_by = time.monotonic() + PATIENCE_S
    while not {"stopped", "spared"} <= signs_after(channel, []).keys():
        assert time.monotonic() < begun_by, "they do not begin"
    assert "spared" in halted(channel, stopped, "stopped")
    assert ray.wait([spared], timeout=1)[0] == []
    halted(channel, spared, "spared")
    assert max(ray.get([stopped, spared])) < LONGEST_S


def test_what_is_stopped_already_does_not_begin(channel):
    """Ray had given it a place before the driver changed its mind."""

    @ray.remote
    def work(key: str, actor: Any) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestrator.run.channel.ASK_S", float(PATIENCE_S))  # a line goes on where no answer comes
            try:
                with WorkerEnd(actor, key):
                    return "begun"
            except Interrupted:
                return "not begun"

    signs_after(channel, ["late"])
    assert ray.get([work.remote("late", channel.actor), work.remote("other", channel.actor)]) == ["not begun", "begun"]
    assert "late" not in signs_after(channel, [])


def halted(channel: WorkerChannel, task: Any, key: str) -> dict[str, Heartbeat]:
    """Wait for a task that is told to stop; returns the last signs of life."""
    signs: dict[str, Heartbeat] = {}
    until = time.monotonic() + PATIENCE_S
    while not ray.wait([task], timeout=0.2)[0]:
        assert time.monotonic() < until, "it does not stop"
        signs = channel.look([key])[1] or signs
    return signs


def signs_after(channel: WorkerChannel, keys: list[str]) -> dict[str, Heartbeat]:
    """The signs of life that the channel has once it knows which keys are to stop."""
    answers: list[dict[str, Heartbeat]] = []
    until = time.monotonic() + PATIENCE_S
    while len(answers) < 2:  # the first may be to a question asked before
        assert time.monotonic() < until, "the channel does not answer"
        signs = channel.look(keys)[1]
        answers += [] if signs is None else [signs]
        time.sleep(0.1)
    return answers[-1]
