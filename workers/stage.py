"""Stages: named computations whose key is the hash of everything that can change their result."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from aream import discover
from aream.config import canonical
from aream.engine.checkpoints import Checkpoints
from aream.engine.ranks import ALONE, Ranks
from aream.errors import Interrupted
from workers import stages
from workers.plugins import used_by
from workers.processes.hardware import CPU, Hardware
from workers.processes.runtime import Runtime
from workers.ranks.process_group import Checkpoint

Row = dict[str, float]
Report = Callable[[Row], None]
T = TypeVar("T")
GPU_PEAK = "gpu/peak_bytes"
"""Metric of a stage that ran on a GPU: the most its process held of the memory for tensors, in bytes."""


@dataclass(frozen=True)
class Stage:
    """One computation of the tree; ``name`` is a module of ``workers.stages``."""

    name: str
    config: Any
    """All it may read of the trial."""
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Identity of what the config only points at: the dataset, weight files."""
    hardware: Hardware = CPU

    @property
    def module(self) -> ModuleType:
        return discover.load(stages, self.name)

    @functools.cached_property
    def key(self) -> str:
        """``<name>-<16 hex digits>``: equal keys promise equal bytes."""
        identity = {
            "name": self.name,
            "version": self.module.VERSION,
            "config": canonical(self.config),
            "fingerprints": dict(self.fingerprints),
            "inputs": {name: stage.key for name, stage in self.inputs.items()},
            "hardware": self.hardware.identity(self.module.COMPUTES_ON),
        }
        if plugins := used_by(self.name, self.config):
            identity["plugins"] = plugins
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def on_gpu(self) -> bool:
        return self.hardware.device == "cuda" and "device" in self.module.COMPUTES_ON

    @property
    def threads(self) -> int:
        """Threads of torch on the CPU, while it runs."""
        return self.hardware.threads if self.hardware.counts_threads(self.module.COMPUTES_ON) else 1

    @property
    def processes(self) -> int:
        """Number of processes that run it together."""
        return int(getattr(self.config, "processes", 1))

    @functools.cached_property
    def shared_pass(self) -> Hashable | None:
        """Equal for stages that one ``run_together`` makes; None: it runs by itself."""
        shared = self.module.shared(self) if hasattr(self.module, "run_together") else None
        return None if shared is None else (self.name, self.hardware, shared)

    def ancestry(self) -> Iterator[Stage]:
        """The stages this one needs, inputs first, then itself; each key once."""
        seen: set[str] = set()

        def walk(stage: Stage) -> Iterator[Stage]:
            for parent in stage.inputs.values():
                yield from walk(parent)
            if stage.key not in seen:
                seen.add(stage.key)
                yield stage

        yield from walk(self)


@dataclass
class Work:
    """What a stage's ``run`` is given; several of them where stages of one kind run together."""

    config: Any
    inputs: Mapping[str, Path]
    """Folders."""
    out: Path
    """An empty folder for its files."""
    checkpoint: Checkpoint
    report: Report
    """As in :class:`StageContext`."""
    seconds: float | None = None
    """That it took by itself, of a pass that others share; None: not known."""


@dataclass(frozen=True)
class StageContext:
    """Things that a stage may use beside its config and inputs; none of them changes the result."""

    runtime: Runtime
    checkpoint: Checkpoint
    report: Report
    """Takes one row of metrics an epoch."""
    stop: Callable[[], bool]
    """Returns True if the stage should save its checkpoint and raise ``Interrupted``; cheap enough to ask every
    step."""
    ranks: Ranks = ALONE
    """The processes that run the stage together."""

    @property
    def writes(self) -> bool:
        """True if this process writes the stage's result: of several, the first."""
        return self.ranks.rank == 0

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, asking before each whether to stop: a stage that asks for nothing counts as stalled.

        Raises:
            Interrupted: it is to stop; what it did is done again later.
        """
        for item in items:
            if self.stop():
                raise Interrupted("stopped as asked")
            yield item

    def checkpoints(self, checkpoint: Checkpoint | None = None) -> Checkpoints:
        """Return the checkpoints of a training loop, which are kept in ``checkpoint``; None: in the context's own."""
        return Checkpoints((checkpoint or self.checkpoint).save, self.runtime.checkpoint_s, stop=self.stop)
