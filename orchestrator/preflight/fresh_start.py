"""``--fresh``: a sweep computes everything anew, and takes nothing from anybody.

Nothing is deleted to have it computed again: records that the store already held no longer count for this sweep, and
new ones take their place. What only earlier runs of this sweep named is named by nobody from then on and left to
``artifacts gc``. Deleted are this sweep's checkpoints, but for those of stages that another sweep names or computes,
and those files of its folder that this project writes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.plan.planner import Planner
from orchestrator.preflight.sweep_folder import id_file, sweep_id
from orchestrator.workspace import FRESH_FILE, SEARCH_FILE, Workspace
from workers.artifacts.collection import CHECKPOINTS, key_of, living_leases
from workers.artifacts.holds import all_holds, held_keys
from workers.artifacts.record import with_ancestors
from workers.artifacts.storages.protocol import PROBES, ObjectStorage
from workers.processes.atomic_write import DAMAGED, StateFile, write_json
from workers.processes.temporary import new_name

FILES = (
    "sweep_id", "store.json", "record.json", "state.json", "orders.json", "spent.json", "stopped.json", "gpus.json",
    "config.json", "summary.json", "report.html", "report.md", "ranking.csv", SEARCH_FILE, "tracking/*/recorded.jsonl",
    "tracking/*/events.jsonl", "tracking/*/offset", "tracking/*/record", "logs/*.log", "logs/*.log.1",
    "figures/*.png", "browser/*.json",
)  # fmt: skip
"""All that this project writes into a sweep's folder; Ray Tune's folder beside it is removed as a whole."""
TUNE, TUNES_OWN = "tune", ("tuner.pkl", ".validate_storage_marker", "experiment_state-*.json")
COARSE_S = 1.1
"""Seconds, more than the one second to which some storages round their times."""


@dataclass(frozen=True)
class FreshStart:
    """Notes of a sweep started with ``--fresh``, kept until all of it is computed."""

    after: float
    """Records that are not younger, by the storage's clock, do not count."""
    replaces: tuple[str, ...]
    """Ids of the sweep's earlier runs, whose holds end when the new one is there."""
    cleared: bool
    """True once the folder was cleared; False if the process was killed before that."""


def begin_anew(planner: Planner, workspace: Workspace) -> Workspace:
    """The workspace of a run that ignores what earlier runs of the sweep left.

    Raises:
        ArtifactCorrupt: a list of what a sweep holds cannot be read.
    """
    storage, known = workspace.store().storage, _file(workspace).read_or_begin_anew()
    earlier = (*(known.replaces if known else ()), *([sweep_id(workspace)] if id_file(workspace).exists() else []))
    own, others = _named(planner, storage, earlier)
    start = FreshStart(_clock(storage), tuple(dict.fromkeys(earlier)), cleared=False)
    _remember(workspace, start)
    for info in list(storage.list(CHECKPOINTS)):
        if (key := key_of(info.name)) in own and key not in others:
            storage.delete_unchanged(info)
    return _cleared(workspace, start)


def go_on(workspace: Workspace) -> Workspace:
    """The workspace of a run that resumes: still fresh where a fresh start has not been computed to its end."""
    start = _file(workspace).read()
    return workspace if start is None else _cleared(workspace, start)


def begun_anew(workspace: Workspace) -> Workspace:
    """The same for looking: nothing is changed."""
    start = _file(workspace).read()
    return workspace if start is None else replace(workspace, after=start.after)


def replaced(workspace: Workspace) -> tuple[str, ...]:
    """Ids whose holds end with the fresh start of this sweep."""
    start = _file(workspace).read()
    return start.replaces if start else ()


def computed(workspace: Workspace) -> None:
    """All of a fresh start is there: from now on everything stored counts again."""
    (workspace.folder / FRESH_FILE).unlink(missing_ok=True)


def _named(planner: Planner, storage: ObjectStorage, earlier: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Keys that this sweep names, or named in earlier runs, and those that others name or compute."""
    trials = planner.corners() if planner.spec.search else planner.grid()
    own = {stage.key for trial in trials for stage in trial.stages()}
    for identity in earlier:
        own |= held_keys(storage, identity)  # also the points that a search proposed
    held = {key for hold in all_holds(storage) if hold.sweep_id not in earlier for key in hold.keys}
    return own, with_ancestors(storage, held, strict=False) | living_leases(storage)


def _clock(storage: ObjectStorage) -> float:
    """Now, as the storage counts; whatever is written later is younger."""
    name = f"{PROBES}{new_name()}"
    storage.write(name, b"")
    found = storage.stat(name)
    storage.delete(name)
    now = time.time() if found is None else found.modified
    if now == int(now):
        time.sleep(COARSE_S)
    return now


def _cleared(workspace: Workspace, start: FreshStart) -> Workspace:
    if not start.cleared:
        if start.replaces:  # else no sweep has ever run here
            for path in _own_files(workspace.folder):
                path.unlink(missing_ok=True)
            tune = workspace.folder / TUNE
            if not tune.is_symlink() and any(next(tune.glob(name), None) for name in TUNES_OWN):
                shutil.rmtree(tune)
        _remember(workspace, replace(start, cleared=True))
    return replace(workspace, after=start.after)


def _own_files(folder: Path) -> Iterator[Path]:
    for pattern in FILES:
        for path in [*folder.glob(pattern), *folder.glob(pattern + DAMAGED)]:
            if path.is_file() or path.is_symlink():
                yield path


def _remember(workspace: Workspace, start: FreshStart) -> None:
    write_json(workspace.folder / FRESH_FILE, asdict(start))


def _file(workspace: Workspace) -> StateFile[FreshStart]:
    def parse(content: bytes) -> FreshStart:
        given = json.loads(content)
        return FreshStart(
            float(given["after"]), tuple(str(identity) for identity in given["replaces"]), bool(given["cleared"])
        )

    return StateFile(
        workspace.folder / FRESH_FILE,
        "since when results count for this sweep, which was started with --fresh",
        "start it with --fresh again, or delete the file: all that is stored then counts",
        parse,
    )
