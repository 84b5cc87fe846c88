"""The ranks of one stage: this process is the first, the others are its children on the same machine.

Why children, and not Ray Train: in Ray 2.60 a ``TorchTrainer`` inside a Tune function reserves its workers in a
placement group of its own, beside the trial's. Tune then counts trials as running that wait for GPUs (three at once on
two, here, until they failed for a start that took longer than 60 s), and when a scheduler stopped such a trial its
workers' group was still held 80 s later, until the experiment hung (ray-project/ray#54305 is the same). Here all ranks
live inside what Tune reserved for the trial, one bundle and so one node: they begin, stop, pause, fail and are killed
with it, and the shared stages before the trials run in the same way.

Why sums, and not ``DistributedDataParallel``: that averages gradients of each rank's own loss, but the affinity loss
divides by pair counts of the whole batch, and its labels are made by passes of their own (``aream/engine/ranks.py``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aream.errors import ConfigError
from workers.processes.background import begin_repeating
from workers.processes.runtime import Runtime, no_images
from workers.ranks.process_group import ProcessRanks, RankLost

log = logging.getLogger(__name__)

END_S = 60.0
"""Seconds that a child may take to end after its work."""
LOOK_S = 0.5
GRACE_S = 60.0
"""Seconds that this process may wait, after a child is gone, for it in a GPU's queue, where nothing tells it."""
SHOWN_CHARACTERS = 3000


@dataclass(frozen=True)
class RankJob:
    """The work of a child process."""

    stage: str
    config: Any
    inputs: Mapping[str, Path]
    runtime: Runtime
    rank: int
    size: int
    rendezvous: Path


@contextlib.contextmanager
def joined(stage: str, config: Any, inputs: Mapping[str, Path], runtime: Runtime, size: int) -> Iterator[ProcessRanks]:
    """Start the other ranks of a stage; the body is what they do too.

    Raises:
        ConfigError: not a GPU for each rank.
        RankLost: a child ended before its work was done.
    """
    if runtime.gpu and torch.cuda.device_count() < size:
        raise ConfigError(f"resources.trial: {size} processes need {size} GPUs, got {torch.cuda.device_count()}")
    threads = torch.get_num_threads()
    own = replace(
        runtime,
        threads=max(1, runtime.threads // size),
        loader_workers=runtime.loader_workers // size,
        images=no_images,  # those of this process only: its children are none of Ray's
    )
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        rendezvous = Path(folder) / "rendezvous"
        children: list[_Child] = []
        try:
            for rank in range(1, size):
                children.append(_Child(RankJob(stage, config, inputs, own, rank, size, rendezvous), Path(folder)))
            for child in children:
                child.wait_until_ready()
            torch.set_num_threads(own.threads)
            with _watched(children):
                ranks = ProcessRanks(0, size, rendezvous, runtime.gpu)
                try:
                    with ranks.together():
                        yield ranks
                    ranks.meet()
                finally:
                    ranks.close()
            for child in children:
                child.wait_for_end()
        except RankLost as lost:
            raise RankLost("; ".join([str(lost), *filter(None, (child.end_told() for child in children))])) from lost
        finally:
            torch.set_num_threads(threads)
            for child in children:
                child.end()


class _Child:
    """One process; it ends when the pipe to it closes, whatever this process dies of."""

    def __init__(self, job: RankJob, folder: Path) -> None:
        self.rank, self.output = job.rank, folder / f"{job.rank}.log"
        self.ready, ready = os.pipe()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.rank_main", str(ready)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[ready],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        os.close(ready)
        assert self.process.stdin is not None  # it was asked for
        with contextlib.suppress(BrokenPipeError):  # told by what it wrote, when it is waited for
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()

    def wait_until_ready(self) -> None:
        word = os.read(self.ready, 1)
        if not word:
            self.process.wait()
            raise RankLost(f"process {self.rank} of this training did not start")

    def wait_for_end(self) -> None:
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            log.warning("process %d of this training does not end by itself", self.rank)

    def end_told(self) -> str | None:
        """Describe a failed end and the last output; None if the process runs or ended with status 0."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LOOK_S)
        if self.process.poll() in (None, 0):
            return None
        said = ""
        with contextlib.suppress(OSError):  # how it ended counts without its words too
            said = self.output.read_text(errors="replace", encoding="utf-8").strip()[-SHOWN_CHARACTERS:]
        return f"process {self.rank} ended with status {self.process.returncode}{': ' if said else ''}{said}"

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ready)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


@contextlib.contextmanager
def _watched(children: Sequence[_Child]) -> Iterator[None]:
    """While the body works. Where sums go through gloo this process hears of a child that is gone; on a GPU it may not,
    and would wait for it without end."""
    done = threading.Event()

    def look() -> None:
        ended = next(filter(None, (child.end_told() for child in children if child.process.poll())), None)
        if ended is not None and not done.wait(GRACE_S):
            log.error("%s; this process waits for it without end, and is ended to be started again", ended)
            os.kill(os.getpid(), signal.SIGKILL)

    thread = begin_repeating("ranks", done, LOOK_S, look)
    try:
        yield
    finally:
        done.set()
        thread.join()
