"""Plan, run or resume, rank and report a sweep.

    python -m orchestrator.sweep sweeps/thresholds.yaml

Exit status: 0 all done, 1 some trials failed, 2 the sweep is invalid, 130 ended early (run it again to resume).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.loopback import keep_ray_on_loopback

if TYPE_CHECKING:
    from orchestrator.board import Board
    from orchestrator.preflight import Prepared

DONE, SOME_FAILED, INVALID, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    # Imported only now: --help answers before torch is read.
    from aream.errors import AreamError, StoreUnavailable
    from orchestrator.preflight import prepare
    from orchestrator.spec_reader import load_spec
    from workers.artifacts.storages.file import FULL

    _end_on_sigterm()
    try:
        spec = load_spec(Path(options.sweep), options.set)
        if options.fail_fast:
            spec = dataclasses.replace(spec, limits=dataclasses.replace(spec.limits, failures=1))
        prepared = prepare(spec)
        if options.plan:
            from orchestrator.plan_summary import print_plan, summarise
            from orchestrator.search_record import known_points

            planner, workplace = prepared.planner, prepared.workplace
            recorded = known_points(planner, workplace.folder) if spec.search and not options.fresh else ()
            print_plan(summarise(planner, workplace.store(), recorded), as_json=options.json)
            return DONE
        try:
            return _run(prepared, options)
        except StoreUnavailable as error:
            print(f"{error}\nnothing that is stored is lost; run the same command again to go on", file=sys.stderr)
            return INTERRUPTED
    except AreamError as error:
        print(error, file=sys.stderr)
        return INVALID
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"{error.filename or 'disk'}: {error.strerror}; free some space and run again", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.sweep", description="Run a sweep; running it again resumes it."
    )
    parser.add_argument("sweep", metavar="SWEEP.yaml")
    parser.add_argument("--plan", action="store_true", help="show what would run, and run nothing")
    parser.add_argument("--json", action="store_true", help="with --plan: as JSON")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the YAML (repeatable)",
    )
    parser.add_argument("--address", help="an existing Ray cluster; default: a local one, on loopback only")
    parser.add_argument("--fail-fast", action="store_true", help="end the sweep with the first failed trial")
    parser.add_argument("--fresh", action="store_true", help="ignore what an earlier run of this sweep left")
    return parser


def _run(prepared: Prepared, options: argparse.Namespace) -> int:
    from orchestrator.driver import Driver
    from orchestrator.locate import remember_store
    from orchestrator.settings import masked
    from orchestrator.summary import print_results
    from orchestrator.sweep_folder import forget, held, sweep_id
    from orchestrator.tracking import Tracker

    spec, workplace, planner = prepared.spec, prepared.workplace, prepared.planner
    with held(workplace):
        if options.fresh:
            forget(planner, workplace)
        if spec.search:
            from orchestrator.search_record import prepare_record  # optuna takes a second to import

            prepare_record(planner, workplace.folder, fresh=options.fresh)
        remember_store(workplace)
        uri, default_uri = prepared.tracking_uri, prepared.default_tracking_uri
        tracker = Tracker(
            uri, spec.experiment or spec.name, sweep_id(workplace), workplace.folder / "tracking", default_uri
        )
        session = _RaySession(prepared, options.address)
        driver = Driver(planner, workplace, tracker, session.start, prepared.artifacts)
        try:
            with workplace.logged("sweep", aloud=True):
                outcome = driver.run()
        except KeyboardInterrupt:
            driver.abandon("interrupted", "KILLED")
            raise
        except Exception:
            driver.abandon("failed", "FAILED")
            raise
        finally:
            session.stop()
    print_results(json.loads(workplace.summary_file.read_text()))
    print(f"report: {workplace.folder / 'report.html'}")
    if outcome.untracked:
        print(f"tracking: {outcome.untracked} events wait for {masked(uri)}; run the same command again to send them")
    print(f"browse: {_ui_command(masked(uri))}")
    for key, reason in outcome.failures.items():
        print(f"failed: {key}: {reason} (log: {workplace.log_file(key)})", file=sys.stderr)
    if outcome.ended:
        print(f"ended before its time: {outcome.ended}; run the same command again to go on", file=sys.stderr)
        if not outcome.failures:
            return INTERRUPTED
    return SOME_FAILED if outcome.failures or outcome.unranked else DONE


def _ui_command(uri: str) -> str:
    if uri.startswith(("http://", "https://")):
        return uri
    return f"{Path(sys.executable).parent / 'mlflow'} ui --backend-store-uri {uri}"


def _end_on_sigterm() -> None:
    """Like Ctrl-C: the state is saved, and the exit status says that the sweep can be resumed."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


class _RaySession:
    """Ray, started only when something has to run, and its nodes looked at before they are asked for anything."""

    def __init__(self, prepared: Prepared, address: str | None) -> None:
        self.prepared, self.address = prepared, address
        self.board: Board | None = None

    def start(self) -> Board:
        if self.board is None:
            if self.address is None:
                keep_ray_on_loopback()
            from orchestrator.board import Board
            from orchestrator.cluster import connect
            from orchestrator.node_checks import refuse_unfit, refuse_unfit_machine

            connect(self.address, self.prepared.spec)
            _end_on_sigterm()  # Ray has just set a handler of its own
            refuse_unfit_machine(self.prepared) if self.address is None else refuse_unfit(self.prepared)
            self.board = Board()
        return self.board

    def stop(self) -> None:
        if "ray" in sys.modules:
            from orchestrator.cluster import disconnect

            disconnect()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
