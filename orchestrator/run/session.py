"""One run of a prepared sweep, from its lock to the last event told: what the command and Python start alike."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from aream.errors import StoreUnavailable
from orchestrator.cluster.access import keep_own_ray_private, send_token_to_cluster
from orchestrator.cluster.cores import usable_cores
from orchestrator.console import signals
from orchestrator.preflight.fresh_start import begin_anew, go_on
from orchestrator.preflight.prepare import Prepared
from orchestrator.preflight.sweep_folder import locked, sweep_id
from orchestrator.run.abandon import abandon
from orchestrator.run.driver import Driver
from orchestrator.run.outcome import SweepOutcome
from orchestrator.tracking.record_place import remember_record, spool_folder
from orchestrator.tracking.tracker import NoTracker, Tracker
from orchestrator.workspace import remember_store

if TYPE_CHECKING:
    from orchestrator.run.channel import WorkerChannel


def run_sweep(
    prepared: Prepared, *, address: str | None = None, fresh: bool = False
) -> tuple[SweepOutcome, Tracker | NoTracker]:
    """Run or resume a sweep, rank it and write its report.

    Args:
        address: of a Ray cluster; None: one of this machine, started where something has to run.
        fresh: whether everything is computed anew, whatever is stored.

    Raises:
        AreamError: another process runs the sweep, a node cannot run it, or a store was away for too long.
        KeyboardInterrupt: it was interrupted; what was computed is stored, and the next run goes on there.
    """
    spec, workspace, planner = prepared.spec, prepared.workspace, prepared.planner
    with locked(workspace):
        workspace = begin_anew(planner, workspace) if fresh else go_on(workspace)
        prepared = dataclasses.replace(prepared, workspace=workspace)
        if spec.search:
            from orchestrator.search.record import prepare_record  # optuna takes a second to import

            prepare_record(planner, workspace.folder, fresh=fresh)
        remember_store(workspace)
        backend, name = prepared.tracking, spec.tracking.name
        tracker: Tracker = NoTracker()
        if backend is not None:
            tracker = Tracker(backend, sweep_id(workspace), spool_folder(workspace, name, backend))
        remember_record(workspace, name, backend.where if backend else "")
        session = _RaySession(prepared, address)
        driver = Driver(planner, workspace, tracker, session.start, prepared.artifacts)
        try:
            with workspace.logged("sweep", aloud=True):
                return driver.run(), tracker
        except (KeyboardInterrupt, StoreUnavailable):
            signals.NOW.held = True
            abandon(driver, "interrupted", "KILLED")
            raise
        except Exception:
            signals.NOW.held = True
            abandon(driver, "failed", "FAILED")
            raise
        finally:
            session.stop()


class _RaySession:
    """Ray, started only when something has to run, and its nodes looked at before they are asked for anything."""

    def __init__(self, prepared: Prepared, address: str | None) -> None:
        self.prepared, self.address = prepared, address
        self.channel: WorkerChannel | None = None

    def start(self, say: Callable[[str], None]) -> WorkerChannel:
        if self.channel is None:
            if self.address is None:
                say(f"starting Ray on {usable_cores()} cores of this machine")
                keep_own_ray_private()
            else:
                say(f"connecting to Ray at {self.address}")
                send_token_to_cluster()
            from orchestrator.cluster.connection import connect
            from orchestrator.preflight.nodes import refuse_unfit, refuse_unfit_machine
            from orchestrator.run.channel import WorkerChannel

            connect(self.address, self.prepared.spec)
            signals.end_on_signals()  # Ray has just set handlers of its own
            refuse_unfit_machine(self.prepared, say) if self.address is None else refuse_unfit(self.prepared, say)
            self.channel = WorkerChannel()
        return self.channel

    def stop(self) -> None:
        if "ray" in sys.modules:
            from orchestrator.cluster.connection import disconnect

            disconnect()
