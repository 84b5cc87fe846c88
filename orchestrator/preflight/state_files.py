"""Check, before anything is read or run, that a sweep can go on from the files of its earlier runs."""

from __future__ import annotations

from orchestrator.monitor.control_file import ControlFile
from orchestrator.monitor.supervisor import spent_before
from orchestrator.preflight.fresh_start import begun_anew
from orchestrator.preflight.sweep_folder import id_file, sweep_id
from orchestrator.workspace import Workspace
from workers.artifacts.holds import all_holds, held_keys


def refuse_damaged(workspace: Workspace, *, fresh: bool) -> None:
    """Read what a run will read; changes nothing.

    Args:
        fresh: whether it begins anew, and asks only who it was and what others hold.

    Raises:
        DamagedFile: a file of the sweep's folder cannot be read.
        ArtifactCorrupt: a list of what sweeps hold cannot be read.
    """
    storage = workspace.store().storage
    known = sweep_id(workspace) if id_file(workspace).exists() else None  # looking makes none
    if fresh:
        for _ in all_holds(storage):
            pass
        return
    begun_anew(workspace)
    ControlFile.read(workspace.control_file)
    spent_before(workspace.spent_file)
    if known is not None:
        held_keys(storage, known)
