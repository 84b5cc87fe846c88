"""Running stages against a store: once, whoever asks for them, and again where what is stored is damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from aream.errors import (
    AreamError,
    ArtifactCorrupt,
    ArtifactNotFound,
    ConfigError,
    Interrupted,
    StageFailed,
    StageHeld,
    StoreUnavailable,
)
from workers.artifacts.leases import Lease, Leases
from workers.artifacts.record import ArtifactRecord
from workers.artifacts.storages.file import FULL
from workers.artifacts.store import ArtifactStore
from workers.checkpoint import CheckpointFile, NoCheckpoint
from workers.failures import may_pass
from workers.images import ImageStore, OwnStore
from workers.processes.gpu_memory import GpuMemory
from workers.processes.hardware import threads
from workers.processes.runtime import Runtime, no_images
from workers.processes.structured_log import working_on
from workers.ranks.launcher import joined
from workers.ranks.process_group import Checkpoint, SharedCheckpoint
from workers.record_of import record_of
from workers.stage import GPU_PEAK, Row, Stage, StageContext

log = logging.getLogger(__name__)


class StageRunner:
    """Runs stages against a store: what is there is not computed again, what is damaged is."""

    def __init__(
        self,
        store: ArtifactStore,
        runtime: Runtime,
        report: Callable[[Stage, Row], None] = lambda stage, row: None,
        stop: Callable[[], bool] = lambda: False,
        leases: Leases | None = None,
        memory: GpuMemory | None = None,
        images: ImageStore | None = None,
    ) -> None:
        """
        Args:
            memory: what peaks are read from; None: that of the runtime's GPU.
            images: keeps decoded ones; None: this process.
        """
        self.store, self.runtime, self.report, self.stop = store, runtime, report, stop
        self.leases = leases or Leases(store.storage)
        self.memory = memory or runtime.memory()
        self.images = images or OwnStore()
        self.store.remove_orphans()

    def run(self, stage: Stage) -> ArtifactRecord:
        """The stage's record, computing it and what it needs where the store has not got it.

        A stage found in the store reports the rows it reported when it ran.

        Raises:
            StageFailed: the stage raised; its checkpoint stays, so that the next try continues there.
            StoreUnavailable: a store was away, or a disk full, for longer than is waited; no fault of the stage's.
            OSError: of a disk or a network; another try may go better.
            StageHeld: another process computes it, or something it needs, right now.
            Interrupted: ``stop`` said so; the checkpoint stays.
        """
        record = self._stored(stage)
        if record is None:
            if self.stop():
                raise Interrupted(f"{stage.key}: stopped before it began")
            inputs = {name: self._materialise(parent) for name, parent in stage.inputs.items()}
            lease = self.leases.take(stage.key)
            if lease is None:
                raise self._held(stage.key)
            with lease, working_on(stage=stage.key):
                record = self._stored(stage)  # its holder may have ended between the first look and the lease
                if record is None:
                    return self._compute(stage, inputs, lease)
        for row in record.history:
            self.report(stage, dict(row))
        return record

    def run_into(self, stage: Stage, out: Path) -> Row:
        """Compute a stage into an empty folder, on its stored inputs, and leave its own place in the store as it is.

        Raises:
            AreamError: what the stage raises.
        """
        inputs = {name: self._materialise(parent) for name, parent in stage.inputs.items()}
        with (
            threads(stage.threads),
            self._context(stage, inputs, NoCheckpoint(), lambda row: self.report(stage, row), self.stop) as context,
        ):
            metrics: Row = stage.module.run(stage.config, inputs, out, context)
        return metrics

    def _stored(self, stage: Stage) -> ArtifactRecord | None:
        try:
            return self.store.record(stage.key)
        except ArtifactNotFound:
            return None
        except ArtifactCorrupt as error:
            log.warning("%s; it is computed again", error)
            self.store.discard_damaged(stage.key)
            return None

    def _compute(self, stage: Stage, inputs: Mapping[str, Path], lease: Lease) -> ArtifactRecord:
        lost = lease.lost.is_set
        checkpoint = CheckpointFile(self.store.storage, stage.key, self.store.scratch, others=lost)
        rows: list[Row] = []

        def report(row: Row) -> None:
            rows.append(row)
            self.report(stage, row)

        started = time.monotonic()
        log.info("running %s in process %d on %s", stage.key, os.getpid(), socket.gethostname())
        try:
            out = self.store.staging()
            try:
                if self.memory is not None:
                    self.memory.forget_peak()
                with (
                    threads(stage.threads),
                    self._context(stage, inputs, checkpoint, report, lambda: lost() or self.stop()) as context,
                ):
                    metrics = stage.module.run(stage.config, inputs, out, context)
                if self.memory is not None:
                    metrics[GPU_PEAK] = float(self.memory.peak())
                seconds = time.monotonic() - started
                record = self.store.put(stage.key, out, record_of(stage, metrics, rows, seconds))
            finally:
                shutil.rmtree(out, ignore_errors=True)
                self.images.done()
        except (Interrupted, StoreUnavailable) as error:
            if isinstance(error, Interrupted) and lost():
                raise self._held(stage.key) from None
            raise
        except AreamError as error:
            self._refuse_away(stage)
            raise StageFailed(f"{stage.key}: {error}") from error
        except OSError as error:
            self._refuse_away(stage)
            if error.errno in FULL:
                raise StoreUnavailable(f"{stage.key}: {error.filename or 'disk'}: {error.strerror}") from error
            if may_pass(error):
                raise
            raise StageFailed(f"{stage.key}: {error.filename or ''}: {error.strerror or error}") from error
        log.info("finished %s in %.1f s", stage.key, time.monotonic() - started)
        checkpoint.discard()
        return record

    @contextlib.contextmanager
    def _context(
        self,
        stage: Stage,
        inputs: Mapping[str, Path],
        checkpoint: Checkpoint,
        report: Callable[[Row], None],
        stop: Callable[[], bool],
    ) -> Iterator[StageContext]:
        """Yield the stage's context, joined with the other processes of a stage that runs in several."""
        runtime = self._runtime(stage)
        if stage.processes == 1:
            yield StageContext(runtime, checkpoint, report, stop)
            return
        with joined(stage.name, stage.config, inputs, runtime, stage.processes) as ranks:
            shared = SharedCheckpoint(ranks, checkpoint)
            yield StageContext(runtime, shared, report, lambda: ranks.agree(stop()), ranks)

    def _runtime(self, stage: Stage) -> Runtime:
        """Return the runtime that the stage's key says, which another job's worker may lack: it asks for the stages
        that it needs too.

        Raises:
            ConfigError: the key is of a GPU, and this worker has none.
        """
        if stage.on_gpu and not self.runtime.gpu:
            raise ConfigError("it is computed on a GPU, and this worker has none: resources must give it one")
        data = stage.fingerprints.get("data")
        images = functools.partial(self.images.of, data) if data else no_images
        return dataclasses.replace(self.runtime, gpu=stage.on_gpu, threads=stage.threads, images=images)

    def _materialise(self, stage: Stage) -> Path:
        """The folder of an input, recomputed if its bytes are not those of its record."""
        self._needed(stage)
        try:
            return self.store.get(stage.key)
        except (ArtifactCorrupt, ArtifactNotFound) as error:
            log.warning("%s; it is computed again", error)
            self.store.discard_damaged(stage.key)
            self._needed(stage)
            return self.store.get(stage.key)

    def _refuse_away(self, stage: Stage) -> None:
        """Raise ``StoreUnavailable`` where the store is away: an input lay in its folder, the stage is not at fault."""
        self.store.has(stage.key)

    def _held(self, key: str) -> StageHeld:
        holder = self.leases.holder(key)
        return StageHeld(key, holder.owner if holder else "a process that has just ended")

    def _needed(self, stage: Stage) -> None:
        if not self.store.has(stage.key):
            self.run(stage)
