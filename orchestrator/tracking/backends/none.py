"""No record beside the store and the report, which are whole without one."""

from __future__ import annotations

from pathlib import Path

from aream.config import config
from orchestrator.workspace import Workspace


@config
class Config:
    """It has no keys."""


def open_backend(config: Config, workspace: Workspace, home: Path) -> None:
    """Nothing is recorded."""
