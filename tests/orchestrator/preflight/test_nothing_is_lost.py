"""Two sweeps on one store, --fresh, collection and kills in every order, with errors and other actors in the middle of
any of their system calls: what a sweep was told to be stored after it named it stays whole, whatever happens.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from artifact_stores import record
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from interrupted_calls import Killed, Moment, interrupted_at

from aream.errors import AreamError
from orchestrator.preflight.fresh_start import begin_anew, computed, go_on, replaced
from orchestrator.preflight.sweep_folder import sweep_id
from orchestrator.workspace import Workspace
from workers.artifacts.collection import collect, tidy
from workers.artifacts.holds import Hold, release
from workers.artifacts.leases import Leases
from workers.artifacts.opening import open_store

MEMORY = Path("/dev/shm")
KEYS = [f"{stage}-{'0' * 15}{number}" for number in range(2) for stage in ("warmup", "train_cam", "infer_cam")]
PARENT = {key: KEYS[place - 1] for place, key in enumerate(KEYS) if not key.startswith("warmup")}
DAYS_S = 2 * 86400
OWN = "its own"
"""Content that no other artifact has; others share their blobs."""


def ancestry(key: str) -> list[str]:
    return [*ancestry(PARENT[key]), key] if key in PARENT else [key]


@dataclass
class Sweep:
    place: Workspace
    hold: Hold | None = None
    named: set[str] = field(default_factory=set)
    """By the driver that runs, in lists that were written."""
    relies: set[str] = field(default_factory=set)
    """Named, and afterwards seen to be stored."""

    def planner(self) -> SimpleNamespace:
        stages = [SimpleNamespace(key=key) for key in KEYS]
        return SimpleNamespace(spec=SimpleNamespace(search=None), grid=lambda: [SimpleNamespace(stages=lambda: stages)])


MOMENTS = st.one_of(st.just(Moment(0)), st.integers(1, 150).map(Moment))
LISTING, DELETING = ("scandir",), ("rename",)
LISTINGS = st.integers(1, 40).map(lambda number: Moment(number, LISTING))
DELETIONS = st.integers(1, 12).map(lambda number: Moment(number, DELETING))
WHATS = st.sampled_from(["ESTALE", "EIO", "EACCES", "kill", "publish", "name", "gc", "finish", "start"])
IN_COLLECTIONS = st.sampled_from(["publish", "name", "ESTALE"])
SWEEPS, SOME_KEYS, CONTENTS = st.sampled_from([0, 1]), st.sampled_from(KEYS), st.sampled_from(["x", "y", OWN])


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.sweeps = [Sweep(Workspace(None, self.root, name)) for name in ("one", "two")]

    def teardown(self) -> None:
        for sweep in self.sweeps:
            self.kill(sweep)
        shutil.rmtree(self.root)

    # What actors do

    def start(self, sweep: Sweep, fresh: bool) -> None:
        if sweep.hold is not None:
            return
        place = sweep.place
        if fresh:
            sweep.relies = set()  # somebody said so
        place = begin_anew(sweep.planner(), place) if fresh else go_on(place)
        sweep.place, sweep.named = place, set()
        hold = Hold(place.store().storage, sweep_id(place), place.name, (), replaced(place))
        try:
            hold.__enter__()
        finally:
            sweep.hold = hold
            if hold.lease is None:
                sweep.hold = None

    def name(self, sweep: Sweep, key: str) -> None:
        if sweep.hold is None:
            return
        keys = set(ancestry(key))
        sweep.hold.add(keys)
        sweep.hold.save()
        sweep.named |= keys
        store = sweep.place.store()
        sweep.relies |= {key for key in keys if store.has(key)}

    def publish(self, sweep: Sweep, key: str, content: str) -> None:
        """A chain, as a worker of the sweep does."""
        self.name(sweep, key)
        if sweep.hold is None:
            return
        for stage in ancestry(key):
            store = sweep.place.store()
            lease = Leases(store.storage).take(stage)
            if lease is None:
                return
            try:
                if not store.has(stage):
                    store.storage.write(f"checkpoints/{stage}.pt", b"state")
                    out = store.staging()
                    (out / "weights").write_text(stage if content == OWN else content)
                    inputs = {"input": PARENT[stage]} if stage in PARENT else {}
                    store.put(stage, out, record(stage, inputs=inputs))
                    store.storage.delete(f"checkpoints/{stage}.pt")
            finally:
                self.end(lease)
            if sweep.hold is not None:
                sweep.relies |= {stage} & sweep.named

    def end(self, lease) -> None:
        lease.released.set()
        lease.release()

    def finish(self, sweep: Sweep) -> None:
        if sweep.hold is None:
            return
        hold, sweep.hold = sweep.hold, None
        hold.lease.released.set()  # its thread ends, also where this is interrupted
        tidy(sweep.place.store())
        hold.complete()
        sweep.relies &= sweep.named
        if all(sweep.place.store().has(key) for key in sweep.named):
            computed(sweep.place)
            sweep.place = go_on(sweep.place)
        hold.__exit__(None, None, None)

    def kill(self, sweep: Sweep) -> None:
        if sweep.hold is not None:
            sweep.hold.lease.released.set()  # what it wrote stays
        sweep.hold = None

    def gc(self, grace_s: float, dry_run: bool = False) -> None:
        store = open_store(None, self.root / "artifacts")
        for _ in collect(store, grace_s, dry_run=dry_run):
            pass

    # Their order, and what comes between

    def run(self, sweep: Sweep | None, work: Callable, moment: Moment, what: str, key: str, content: str) -> None:
        """Do something, and at a moment of it something else."""
        others = [other for other in self.sweeps if other is not sweep]

        def happens() -> None:
            if what == "kill":
                raise Killed
            if what.startswith("E"):
                raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))
            for other in others:
                if what in ("publish", "name") and other.hold is None:
                    self.start(other, fresh=False)
                {
                    "publish": lambda other=other: self.publish(other, key, content),
                    "name": lambda other=other: self.name(other, key),
                    "finish": lambda other=other: self.finish(other),
                    "start": lambda other=other: self.start(other, fresh=True),
                    "gc": lambda: self.gc(0.0),
                }[what]()

        try:
            with interrupted_at(moment, happens):
                work()
        except Killed:
            if sweep is not None:
                self.kill(sweep)
        except (AreamError, OSError):
            pass

    @rule(sweep=SWEEPS, fresh=st.booleans(), moment=MOMENTS, what=WHATS, key=SOME_KEYS, content=CONTENTS)
    def starts(self, sweep, fresh, moment, what, key, content):
        sweep = self.sweeps[sweep]
        self.run(sweep, lambda: self.start(sweep, fresh), moment, what, key, content)

    @rule(sweep=SWEEPS, key=SOME_KEYS, moment=MOMENTS, what=WHATS, other=SOME_KEYS, content=CONTENTS)
    def names(self, sweep, key, moment, what, other, content):
        sweep = self.sweeps[sweep]
        self.run(sweep, lambda: self.name(sweep, key), moment, what, other, content)

    @rule(sweep=SWEEPS, key=SOME_KEYS, own=CONTENTS, moment=MOMENTS, what=WHATS, other=SOME_KEYS, content=CONTENTS)
    def publishes(self, sweep, key, own, moment, what, other, content):
        sweep = self.sweeps[sweep]
        if sweep.hold is None:
            self.start(sweep, fresh=False)
        self.run(sweep, lambda: self.publish(sweep, key, own), moment, what, other, content)

    @rule(sweep=SWEEPS, moment=MOMENTS, what=WHATS, key=SOME_KEYS, content=CONTENTS)
    def finishes(self, sweep, moment, what, key, content):
        sweep = self.sweeps[sweep]
        self.run(sweep, lambda: self.finish(sweep), moment, what, key, content)

    @rule(sweep=SWEEPS)
    def is_killed(self, sweep):
        self.kill(self.sweeps[sweep])

    @rule(sweep=SWEEPS, fresh=st.booleans(), key=SOME_KEYS, content=CONTENTS)
    def runs_to_its_end(self, sweep, fresh, key, content):
        sweep = self.sweeps[sweep]
        self.start(sweep, fresh)
        self.publish(sweep, key, content)
        self.finish(sweep)

    @rule(sweep=SWEEPS)
    def is_forgotten(self, sweep):
        sweep = self.sweeps[sweep]
        if sweep.hold is None:
            sweep.relies = set()
            release(sweep.place.store().storage, sweep_id(sweep.place))

    @rule(hours=st.sampled_from([0, 24]), moment=MOMENTS | LISTINGS, what=WHATS, key=SOME_KEYS, content=CONTENTS)
    def is_collected(self, hours, moment, what, key, content):
        if hours:
            self.days_pass()
        self.run(None, lambda: self.gc(hours * 3600.0), moment, what, key, content)

    @rule(sweep=SWEEPS, key=SOME_KEYS, moment=DELETIONS | LISTINGS, what=IN_COLLECTIONS, content=CONTENTS)
    def is_forgotten_and_collected(self, sweep, key, moment, what, content):
        self.runs_to_its_end(sweep, False, key, content)
        self.is_forgotten(sweep)
        self.days_pass()
        self.run(None, lambda: self.gc(0.0), moment, what, key, content)

    @rule(moment=MOMENTS, what=st.sampled_from(["ESTALE", "EIO", "kill"]))
    def is_looked_at(self, moment, what):
        """A dry run changes nothing."""
        before = self.files()
        self.run(None, lambda: self.gc(0.0, dry_run=True), moment, what, KEYS[0], "x")
        assert self.files() == before

    @rule()
    def days_pass(self):
        """Everything is older, and the leases of drivers that run have beaten."""
        for path in (self.root / "artifacts").rglob("*"):
            info = path.stat()
            os.utime(path, (info.st_atime - DAYS_S, info.st_mtime - DAYS_S))
        for sweep in self.sweeps:
            if sweep.hold is not None:
                for path in (self.root / "artifacts" / "leases" / f"sweep-{sweep.hold.sweep_id}").iterdir():
                    os.utime(path)

    def files(self) -> dict[Path, tuple[int, int]]:
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}

    @invariant()
    def what_a_sweep_relies_on_is_whole(self):
        store = open_store(None, self.root / "artifacts")
        for key in set().union(*(sweep.relies for sweep in self.sweeps)):
            store.verify(key)


Store.TestCase.settings = settings(max_examples=1000, stateful_step_count=12, suppress_health_check=list(HealthCheck))
TestStore = pytest.mark.slow(Store.TestCase)
