"""Where a sweep's workers read and write: handed to every Ray task as plain data."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.artifacts.opening import open_store
from workers.artifacts.store import ArtifactStore
from workers.runtime import Runtime
from workers.stage import Row, Stage, StageRunner

LOG_BYTES = 4 << 20
"""A log that grows beyond this keeps its last part, and the part before that beside it."""


@dataclass(frozen=True)
class Workplace:
    store_uri: str | None
    runs: Path
    """Absolute; holds the local store, checkpoints and one folder a sweep."""
    name: str
    """Of the sweep."""
    store_endpoint: str | None = None
    loader_workers: int = 0

    @property
    def folder(self) -> Path:
        return self.runs / self.name

    @property
    def summary_file(self) -> Path:
        return self.folder / "summary.json"

    @property
    def orders_file(self) -> Path:
        return self.folder / "orders.json"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    def store(self) -> ArtifactStore:
        return open_store(self.store_uri, self.runs / "artifacts", self.store_endpoint)

    def log_file(self, key: str) -> Path:
        return self.folder / "logs" / f"{key}.log"

    def runner(
        self,
        *,
        threads: int,
        gpu: bool,
        report: Callable[[Stage, Row], None] = lambda stage, row: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> StageRunner:
        """A stage runner on this machine, its process prepared."""
        runtime = Runtime(gpu=gpu, threads=threads, loader_workers=self.loader_workers)
        runtime.prepare()
        return StageRunner(self.store(), runtime, report, stop)

    @contextlib.contextmanager
    def logged(self, key: str) -> Iterator[None]:
        """Write what the body logs, and the traceback it ends with, to the log file of ``key``."""
        path = self.log_file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            yield
        except Exception:
            logging.getLogger(__name__).error("%s", traceback.format_exc())
            raise
        finally:
            root.removeHandler(handler)
            handler.close()
