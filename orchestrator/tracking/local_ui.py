"""MLflow's UI on this machine: the command that starts it, and where it then is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.workspace import Workspace

HOST, PORT = "127.0.0.1", 5000


def local_address(port: int = PORT) -> str:
    return f"http://{HOST}:{port}"


def ui_command(workspace: Workspace) -> str:
    """The command to paste into a shell for the record of a sweep, in the folder that this process runs in."""
    words = ["aream", "ui", workspace.name]
    if workspace.runs != Path.cwd() / "runs":
        words += ["--runs", str(workspace.runs)]
    return shlex.join(words)
