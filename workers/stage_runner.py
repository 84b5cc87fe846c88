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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from workers.artifacts.store import ArtifactStore
from workers.checkpoint import CheckpointFile, NoCheckpoint
from workers.failures import failure_of, note_stage
from workers.images import ImageStore, OwnStore
from workers.processes.gpu_memory import GpuMemory
from workers.processes.hardware import threads
from workers.processes.runtime import Runtime, no_images
from workers.processes.structured_log import working_on
from workers.ranks.launcher import joined
from workers.ranks.process_group import SharedCheckpoint
from workers.record_of import record_of
from workers.stage import GPU_PEAK, Row, Stage, StageContext, Work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """A stage that is to be computed, under its lease."""

    stage: Stage
    inputs: Mapping[str, Path]
    lease: Lease
    rows: list[Row] = field(default_factory=list)


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
            OSError, DataUnavailable: of a disk or a network; another try may go better.
            StageHeld: another process computes it, or something it needs, right now.
            Interrupted: ``stop`` said so; the checkpoint stays.
        """
        return self._run([stage])[0]

    def run_all(self, stages: Iterable[Stage]) -> Iterator[ArtifactRecord]:
        """The records of stages, each as soon as it is there; one of several with equal keys.

        Those that can share a pass, and have all they need, do. Of these, what fails or is held does not keep the
        others from being stored, and is raised after that, as ``run`` raises it.
        """
        waiting = {stage.key: stage for stage in stages}
        while waiting:
            first, *others = waiting.values()
            alike = [] if first.shared_pass is None else [s for s in others if s.shared_pass == first.shared_pass]
            ready = [stage for stage in alike if all(self.store.has(need.key) for need in stage.inputs.values())]
            for stage in (first, *ready):
                del waiting[stage.key]
            yield from self._run([first, *ready])

    def run_into(self, stage: Stage, out: Path) -> Row:
        """Compute a stage into an empty folder, on its stored inputs, and leave its own place in the store as it is.

        Raises:
            AreamError: what the stage raises.
        """
        inputs = {name: self._materialise(parent) for name, parent in stage.inputs.items()}
        work = Work(stage.config, inputs, out, NoCheckpoint(), lambda row: self.report(stage, row))
        with (
            threads(stage.threads),
            self._context(stage, work, self.stop) as context,
        ):
            metrics: Row = stage.module.run(work.config, work.inputs, out, context)
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

    def _run(self, group: Sequence[Stage]) -> list[ArtifactRecord]:
        records: dict[str, ArtifactRecord] = {}
        failures: list[Exception] = []
        with contextlib.ExitStack() as leases:
            parts: list[_Part] = []
            for stage in group:
                try:
                    found = self._found_or_taken(stage, leases)
                except (StageFailed, StageHeld) as error:
                    failures.append(error)
                else:
                    if isinstance(found, _Part):
                        parts.append(found)
                    else:
                        records[stage.key] = found
            for part, outcome in zip(parts, self._compute(parts) if parts else (), strict=True):
                if isinstance(outcome, Exception):
                    failures.append(outcome)
                else:
                    records[part.stage.key] = outcome
        if failures:
            raise failures[0]
        return [records[stage.key] for stage in group]

    def _found_or_taken(self, stage: Stage, leases: contextlib.ExitStack) -> ArtifactRecord | _Part:
        """Its record, or what computing it takes, with its lease held."""
        record = self._stored(stage)
        if record is None:
            if self.stop():
                raise Interrupted(f"{stage.key}: stopped before it began")
            inputs = {name: self._materialise(parent) for name, parent in stage.inputs.items()}
            lease = self.leases.take(stage.key)
            if lease is None:
                raise self._held(stage.key)
            leases.enter_context(lease)
            record = self._stored(stage)  # its holder may have ended between the first look and the lease
            if record is None:
                return _Part(stage, inputs, lease)
        for row in record.history:
            self.report(stage, dict(row))
        return record

    def _compute(self, parts: Sequence[_Part]) -> Iterator[ArtifactRecord | Exception]:
        """The record of each, or why there is none; several share a pass, and the time of it that is no
        one's own evenly."""
        first = parts[0].stage

        def lost() -> bool:
            return any(part.lease.lost.is_set() for part in parts)

        def report(part: _Part, row: Row) -> None:
            part.rows.append(row)
            self.report(part.stage, row)

        keys = ", ".join(part.stage.key for part in parts)
        log.info("running %s in process %d on %s", keys, os.getpid(), socket.gethostname())
        with contextlib.ExitStack() as until_end, working_on(stage=first.key):
            until_end.callback(self.images.done)
            works, checkpoints = [], []
            for part in parts:
                out = self.store.staging()
                until_end.callback(shutil.rmtree, out, ignore_errors=True)
                kept = CheckpointFile(self.store.storage, part.stage.key, self.store.scratch, others=lost)
                checkpoints.append(kept)
                works.append(Work(part.stage.config, part.inputs, out, kept, functools.partial(report, part)))
            context = self._context(first, works[0], lambda: lost() or self.stop())
            outcomes = until_end.enter_context(contextlib.closing(self._outcomes(first, works, context)))
            rest = 0.0
            for part, work, checkpoint in zip(parts, works, checkpoints, strict=True):
                with self._told(part.stage, lost):
                    started = time.monotonic()
                    metrics = next(outcomes)
                    own = time.monotonic() - started
                if part is parts[0]:  # it waited for the pass
                    known = [one.seconds for one in works if one.seconds is not None]
                    rest, own = (own - sum(known)) / (len(known) or len(parts)), 0.0
                try:
                    with self._told(part.stage, lost):
                        if isinstance(metrics, Exception):
                            raise metrics
                        if self.memory is not None:
                            metrics[GPU_PEAK] = float(self.memory.peak())
                        record = record_of(part.stage, metrics, part.rows, rest + own + (work.seconds or 0.0))
                        outcome = self.store.put(part.stage.key, work.out, record)
                except (Interrupted, StoreUnavailable):
                    raise
                except Exception as error:
                    yield error
                else:
                    log.info("finished %s in %.1f s", part.stage.key, record.seconds)
                    checkpoint.discard()
                    yield outcome

    def _outcomes(
        self, first: Stage, works: Sequence[Work], context: contextlib.AbstractContextManager[StageContext]
    ) -> Generator[Row | Exception]:
        """What each ``run`` returns, or one ``run_together`` says of each."""
        if self.memory is not None:
            self.memory.forget_peak()
        with threads(first.threads), context as open_context:
            if len(works) > 1:
                yield from first.module.run_together(works, open_context)
                return
            metrics: Row = first.module.run(works[0].config, works[0].inputs, works[0].out, open_context)
        yield metrics

    @contextlib.contextmanager
    def _told(self, stage: Stage, lost: Callable[[], bool]) -> Iterator[None]:
        """What the stage raises, as ``run`` tells it."""
        try:
            yield
        except (Interrupted, StoreUnavailable) as error:
            if isinstance(error, Interrupted) and lost():
                raise self._held(stage.key) from None
            raise
        except (AreamError, OSError) as error:
            self.store.has(stage.key)  # raises where the store is away: an input lay there, the stage is not at fault
            if (failure := failure_of(stage.key, error)) is error:
                raise
            raise failure from error
        except Exception as error:
            note_stage(error, stage.key)
            raise

    @contextlib.contextmanager
    def _context(self, stage: Stage, work: Work, stop: Callable[[], bool]) -> Iterator[StageContext]:
        """Yield the stage's context, joined with the other processes of a stage that runs in several."""
        runtime = self._runtime(stage)
        if stage.processes == 1:
            yield StageContext(runtime, work.checkpoint, work.report, stop)
            return
        with joined(stage.name, stage.config, work.inputs, runtime, stage.processes) as ranks:
            shared = SharedCheckpoint(ranks, work.checkpoint)
            own = dataclasses.replace(runtime, loader_workers=runtime.loader_workers // stage.processes)
            yield StageContext(own, shared, work.report, lambda: ranks.agree(stop()), ranks)

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

    def _held(self, key: str) -> StageHeld:
        holder = self.leases.holder(key)
        return StageHeld(key, holder.owner if holder else "a process that has just ended")

    def _needed(self, stage: Stage) -> None:
        if not self.store.has(stage.key):
            self.run(stage)
