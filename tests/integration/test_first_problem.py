"""What goes wrong in the driver while it is told of a trial ends the sweep, and is no failure of that trial."""

from __future__ import annotations

import pytest

import sweeps
from aream.errors import StoreUnavailable
from orchestrator.monitor.supervisor import Supervisor
from orchestrator.preflight.prepare import prepare
from orchestrator.spec.reader import load_spec

pytestmark = pytest.mark.integration
SMALLEST = ("axes={train.lr: [1.0e-3, 2.0e-3, 3.0e-3]}", "segmentation=null", "train.epochs=2")


class Listener:
    """Remembers what it is told, and cannot write down that a trial finished."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.failures: list[str] = []

    def started(self, trial) -> None:
        self.begun.append(trial.key)

    def finished(self, trial, handed) -> None:
        if len(self.ended) == self.allowed:
            raise StoreUnavailable("s3://bucket/records: 503 after 5 tries")
        self.ended.append(trial.key)

    def fails_at_once(self, trial) -> bool:
        return False

    def seen_stopped(self) -> list:
        return []

    def failed(self, trial, error, stage=None) -> None:
        self.failures.append(error)

    def row(self, trial, row) -> None: ...
    def stopped_early(self, trial, reason) -> None: ...
    def waits(self, trial, status, reason) -> None: ...

    def again(self, trial, reason) -> None: ...
    def stalled(self, key) -> None: ...
    def short(self, missing) -> None: ...


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Runs the three trials of a sweep in this process, for a listener."""
    from orchestrator.cluster.connection import connect, disconnect
    from orchestrator.run.channel import WorkerChannel
    from orchestrator.run.tuning import run_trials

    folder = tmp_path_factory.mktemp("problem")
    prepared = prepare(load_spec(sweeps.write_small(folder), SMALLEST))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        connect(None, prepared.spec)
        try:
            yield lambda listener: run_trials(
                prepared.planner,
                prepared.workspace,
                listener,
                Supervisor(folder / "orders.json", folder / "spent.json", prepared.spec.limits),
                WorkerChannel(),
                listed=prepared.planner.grid(),
            )
        finally:
            disconnect()


@pytest.mark.parametrize("allowed", [0, 2])
def test_the_problem_itself_is_raised(trials, allowed):
    """At the first trial while others run, and at the last, behind which Tune takes no further step."""
    listener = Listener(allowed)
    with pytest.raises(StoreUnavailable, match="503 after 5 tries"):
        trials(listener)
    assert not listener.failures
    assert len(listener.begun) == len(set(listener.begun)), "a finished trial was begun again"
