"""What a sweep is doing, from another terminal.

python -m orchestrator.status NAME|SWEEP.yaml [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.status", description="Trials and stages of a sweep.")
    parser.add_argument("sweep", help="name of a sweep under the runs folder, or its YAML")
    parser.add_argument("--runs", default="runs", help="the runs folder (default: runs; a YAML names its own)")
    parser.add_argument("--json", action="store_true", help="print the state file with `alive` added")
    options = parser.parse_args(arguments)
    from aream.errors import AreamError
    from orchestrator.locate import locate

    try:
        workplace = locate(options.sweep, Path(options.runs))
        if not workplace.state_file.exists():
            raise AreamError(f"{workplace.folder}: this sweep has not been started")
    except AreamError as error:
        print(error, file=sys.stderr)
        return 2
    content = json.loads(workplace.state_file.read_text())
    content["alive"] = content["phase"] not in ("finished", "interrupted", "failed") and _alive(content["pid"])
    if options.json:
        print(json.dumps(content, indent=1))
    else:
        _show(content)
    return 0


def _alive(pid: int) -> bool:
    """Whether the driver runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _show(content: Mapping[str, Any]) -> None:
    from rich.console import Console

    from orchestrator.progress import duration, task_table
    from orchestrator.state import SweepState, TaskState

    state = SweepState(Path(), content["name"])
    state.phase = content["phase"]
    state.tasks = {task["key"]: TaskState(**task) for task in content["tasks"]}
    console = Console(width=None if os.isatty(1) else 140, highlight=False)
    console.print(task_table(state, "pseudo/miou"))
    age = duration(max(0.0, time.time() - content["saved"]))
    if content["phase"] == "finished":
        console.print(f"finished {age} ago")
    elif content["alive"]:
        console.print(f"running as process {content['pid']}; last change {age} ago")
    else:
        console.print(f"not running (last change {age} ago); run the same command again to resume")
    if content["problem"]:
        console.print(f"tracking: {content['problem']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
