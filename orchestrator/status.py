"""Show what a sweep is doing, from another terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.console.command import command, run
from orchestrator.console.parser import add_sweep, refuse_idle
from orchestrator.console.streams import output_is_lost

if TYPE_CHECKING:
    from rich.console import Group

    from orchestrator.workspace import Workspace

WATCH_S = 2.0


def _period(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"need 0.1 to 86400 seconds, got {text}")
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_period,
        const=WATCH_S,
        metavar="SECONDS",
        help=f"show it again every few seconds (default: {WATCH_S:g}) until the sweep ends",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the state file with alive, elapsed_s, last_change_s, stored and the log files of failures; "
        "with --watch one line each time",
    )
    parser.add_argument(
        "--log",
        metavar="KEY",
        help="print the log of a trial, shared stage or segmentation job as text (its key, or how that begins); "
        "sweep: the driver's",
    )


@command(
    add_arguments,
    """
%(prog)s thresholds
%(prog)s thresholds --watch
%(prog)s thresholds --log train_cam-3eca
""",
)
def main(options: argparse.Namespace) -> int:
    from orchestrator.workspace import locate

    workspace = locate(options.sweep, options.runs)
    if options.log is not None:
        refuse_idle(options, "of the state, not of a log, which is printed as text and once", "watch", "json")
        from orchestrator.monitor.logs import log_text

        for line in log_text(workspace.log_folder, options.log):
            if output_is_lost():
                break
            print(line)
    elif options.watch is None:
        _print(observed(workspace), options.json)
    else:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            _watch(workspace, options.watch, options.json)
            return 0
        return 130
    return 0


def observed(workspace: Workspace, now: float | None = None) -> dict[str, Any]:
    """The state file, and what can be told from here about the process that writes it.

    Raises:
        AreamError: the sweep has not been started, or its state cannot be read.
    """
    from orchestrator.monitor.state import is_over, read_state

    content = read_state(workspace.state_file)
    now = time.time() if now is None else now
    alive = False if is_over(content["phase"]) else _alive(content)
    content |= {
        "alive": alive,
        "elapsed_s": max(0.0, (content["saved"] if alive is False else now) - content["started"]),
        "last_change_s": max(0.0, now - content["saved"]),
        "stored": sum(bool(task.get("cached")) for task in content["tasks"]),
    }
    for task in content["tasks"]:
        log = workspace.log_file(task["key"])
        if task["status"] == "failed":
            task["log"] = str(log) if log.exists() else None
    return content


def _alive(content: Mapping[str, Any]) -> bool | None:
    """True if the driver runs; None if that cannot be seen from this machine."""
    import socket

    from workers.processes.identity import Process, machine_id

    process = Process.parse(content.get("process", ""))
    if process is not None and process.machine == machine_id() and process.started:
        return not process.known_dead()
    if (process is not None and process.started) or content.get("host", socket.gethostname()) != socket.gethostname():
        return None
    try:
        os.kill(content["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _print(content: Mapping[str, Any], as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        print(json.dumps(content, indent=1))
    else:
        Console(width=None if os.isatty(1) else 140, highlight=False).print(_view(content))


def _watch(workspace: Workspace, period_s: float, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    if as_json or not os.isatty(1):
        while True:
            content = observed(workspace)
            if as_json:
                print(json.dumps(content), flush=True)
            else:
                _print(content, as_json)
            if content["alive"] is False or output_is_lost():
                return
            time.sleep(period_s)
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            content = observed(workspace)
            live.update(_view(content), refresh=True)
            if content["alive"] is False:
                return
            time.sleep(period_s)


def _view(content: Mapping[str, Any]) -> Group:
    from rich.console import Group
    from rich.text import Text

    from orchestrator.monitor.progress import task_view
    from orchestrator.monitor.state import restored
    from orchestrator.search.stopped_trials import stopped_sentence, stopped_tasks

    now = content["saved"] + content["last_change_s"]
    # Of a driver that stopped, the forecast is the one it had.
    state = restored(content, lambda: content["saved"] if content["alive"] is False else now)
    lines = [_life(content)]
    if content["problem"]:
        lines.append(f"tracking: {content['problem']}")
    if stopped := stopped_sentence(stopped_tasks(state)):
        lines.append(stopped)
    for task in content["tasks"]:
        if task["status"] == "failed":
            log = f"; log: {task['log']}" if task["log"] else "; it wrote no log"
            lines.append(f"failed: {task['title']} ({task['key']}): {task.get('error')}{log}")
        elif task.get("error"):
            lines.append(f"{task['status']}: {task['title']}: {task['error']}")
    return Group(task_view(state), *(Text(line, overflow="fold") for line in lines))


def _life(content: Mapping[str, Any]) -> str:
    from orchestrator.text import duration

    age, elapsed = duration(content["last_change_s"]), duration(content["elapsed_s"])
    driver = f"process {content['pid']}" + (f" on {content['host']}" if content.get("host") else "")
    if content["phase"] == "finished":
        return f"finished {age} ago after {elapsed}"
    if content["alive"]:
        return f"running for {elapsed} as {driver}; last change {age} ago"
    if content["alive"] is None:
        return f"started {elapsed} ago as {driver}, which cannot be seen from this machine; last change {age} ago"
    return f"not running (last change {age} ago, after {elapsed}); run the same command again to resume"


if __name__ == "__main__":
    run(main)
