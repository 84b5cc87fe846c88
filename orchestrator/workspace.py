"""The locations that a sweep's workers read and write: handed to every Ray task as plain data."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aream.errors import AreamError, ConfigError, Interrupted, StageHeld
from aream.system_errors import FULL
from orchestrator.console.permissions import DENIED, permission_advice
from orchestrator.spec.names import absolute, is_sweep_name
from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore
from workers.artifacts.waits import USUAL, Waits
from workers.processes.atomic_write import StateFile, write_json
from workers.processes.structured_log import JsonLines, working_on

log = logging.getLogger(__name__)

FRESH_FILE, SEARCH_FILE = "fresh.json", "search.log"
LOG_BYTES = 4 << 20
"""A log that grows beyond this keeps its last part, and the part before that beside it."""


@dataclass(frozen=True)
class Workspace:
    store_uri: str | None
    runs: Path
    """Absolute; holds the local store, checkpoints and one folder a sweep."""
    name: str
    """Name of the sweep."""
    store_endpoint: str | None = None
    store_waits: Waits = USUAL
    after: float | None = None
    """Records of the store that are not younger do not count: the sweep was started with ``--fresh``."""

    @property
    def folder(self) -> Path:
        return self.runs / self.name

    @property
    def summary_file(self) -> Path:
        return self.folder / "summary.json"

    @property
    def control_file(self) -> Path:
        return self.folder / "orders.json"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def spent_file(self) -> Path:
        return self.folder / "spent.json"

    def check(self) -> None:
        """Check that the sweep's folder can be written, and is not the store's.

        Raises:
            ConfigError: it cannot, or is.
        """
        self._refuse_store_within()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            if error.errno in FULL:
                raise
            advice = f"; {permission_advice(self.folder)}" if error.errno in DENIED else ""
            raise ConfigError(f"runs: {self.folder} cannot be written ({error.strerror}){advice}") from error

    def _refuse_store_within(self) -> None:
        """``--fresh`` empties the sweep's folder."""
        root = getattr(self.store().storage, "root", None)
        if root is None:
            return
        own, store = Path(os.path.realpath(self.folder)), Path(os.path.realpath(root))  # bears links in a circle
        if own == store or own in store.parents or store in own.parents:
            raise ConfigError(f"store.uri: {store} and the sweep's folder {own} overlap: need two separate folders")

    def store(self) -> ArtifactStore:
        return open_store(self.store_uri, self.runs / "artifacts", self.store_endpoint, self.after, self.store_waits)

    @property
    def log_folder(self) -> Path:
        return self.folder / "logs"

    def log_file(self, key: str) -> Path:
        return self.log_folder / f"{key}.log"

    @contextlib.contextmanager
    def logged(self, key: str, *, aloud: bool = False, **ids: str) -> Iterator[None]:
        """Write what the body logs, and the traceback it ends with, to the log file of ``key``: JSON lines with the
        sweep's name and ``ids``.

        Args:
            aloud: warnings go to standard error too, as they do where nothing handles logs.
        """
        path = self.log_file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _LogFile(path, maxBytes=LOG_BYTES, backupCount=1)
        file.setFormatter(JsonLines())
        logging.getLogger().setLevel(logging.INFO)
        with contextlib.closing(file), _handled_by(file), working_on(sweep=self.name, **ids):
            try:
                with _handled_by(logging.lastResort if aloud else None):
                    yield
            except (Interrupted, StageHeld) as error:
                log.info("%s", error)
                raise
            except Exception as error:
                log.error("%s", error, exc_info=True)
                raise


class _LogFile(logging.handlers.RotatingFileHandler):
    """Silent on a full disk: whatever needs the disk says so, once; a log would at every line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def _handled_by(handler: logging.Handler | None) -> Iterator[None]:
    if handler is None:
        yield
        return
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


STORE_FILE = "store.json"


def runs_folder(given: str) -> Path:
    """Return the folder given as ``--runs``, absolute.

    Raises:
        ConfigError: no folder that is there.
    """
    folder = absolute(given, "--runs")
    if not folder.is_dir():
        raise ConfigError(f"--runs: {folder} {'is not a folder' if folder.exists() else 'does not exist'}")
    return folder


def locate(sweep: str, runs: str) -> Workspace:
    """The workspace of a sweep named by its YAML file or by its name under the folder ``runs``.

    Raises:
        AreamError: neither exists, the YAML does not say where its results go, or the folder's note of its store is
            damaged.
    """
    if sweep.endswith((".yaml", ".yml")):
        from orchestrator.spec.place import read_place

        place = read_place(Path(sweep))
        return Workspace(
            store_uri=place.store_uri,
            runs=place.runs_dir,
            name=place.name,
            store_endpoint=place.store.endpoint,
            store_waits=place.store.waits,
        )
    folder = runs_folder(runs)
    if not is_sweep_name(sweep) or not (folder / sweep).is_dir():
        known = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise AreamError(f"no sweep {sweep[:80]!r} in {folder}; there are: {', '.join(known) or 'none'}")
    uri, endpoint = _store_file(folder / sweep).read() or (None, None)
    return Workspace(store_uri=uri, runs=folder, name=sweep, store_endpoint=endpoint)


def _store_file(folder: Path) -> StateFile[tuple[str | None, str | None]]:
    def parse(content: bytes) -> tuple[str | None, str | None]:
        given = json.loads(content)
        if not isinstance(given, list) or not all(part is None or isinstance(part, str) for part in given):
            raise ValueError("need a list of the store's URI and endpoint")
        uri, endpoint = given
        return uri, endpoint

    go_on = "name the sweep by its YAML file; running the sweep writes it anew"
    return StateFile(folder / STORE_FILE, "where the sweep's store is", go_on, parse)


def remember_store(workspace: Workspace) -> None:
    """So that commands that know only the sweep's name find its artifacts."""
    write_json(workspace.folder / STORE_FILE, [workspace.store_uri, workspace.store_endpoint])
