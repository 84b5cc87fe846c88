"""A search's points and their results in an Optuna storage, from which a later run goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.pool import NullPool

from aream.config import canonical
from aream.errors import AreamError
from orchestrator.plan.planner import Planner
from orchestrator.search.space import Parameters, SearchSpace, identity
from orchestrator.spec.axes import Values
from orchestrator.workspace import SEARCH_FILE
from workers.processes.atomic_write import StateFile, write_bytes
from workers.processes.masking import masked

CONNECT_S = 10


@dataclass(frozen=True)
class PointOutcome:
    """The end of a point: with one value per objective, stopped early, or failed."""

    state: TrialState
    values: tuple[float, ...] | None = None


STOPPED = PointOutcome(TrialState.PRUNED)
FAILED = PointOutcome(TrialState.FAIL)


@dataclass(frozen=True)
class Recorded:
    """A point of an earlier run."""

    number: int
    values: Values
    outcome: PointOutcome | None
    """None: it was proposed and has not ended."""
    system: dict[str, Any]
    """Notes of Optuna's samplers about the point."""


class _HeldByTheDriver:
    """Instead of Optuna's lock files, which a killed process leaves behind: one driver at a time holds the folder."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class SearchRecord:
    """One Optuna study: a search over certain axes for certain objectives, with everything else of the sweep equal.

    Where there is none yet, it starts with what earlier studies of the sweep know: points that still fit, and their
    results if they were judged by the same objectives and seeds.

    Raises:
        AreamError: the storage does not answer, or holds something else.
    """

    def __init__(self, planner: Planner, folder: Path, storage: BaseStorage | None = None) -> None:
        """``storage`` stands in for the search's own."""
        spec = planner.spec
        self.space = SearchSpace(spec)
        self.url = spec.search.storage if spec.search else None
        self.shown = masked(self.url) if self.url else str(folder / SEARCH_FILE)
        axes = spec.resolved()
        self.sweep = spec.name
        self.context = _digest([{**canonical(spec.base), "seed": None}, dict(planner.fingerprints)])
        self.judged = _digest([canonical(spec.objectives), spec.seeds])
        self.name = f"{spec.name}-{_digest([self.context, self.judged, axes['axes'], axes['where']])[:12]}"
        self.directions = ["maximize" if objective.mode == "max" else "minimize" for objective in spec.objectives]
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self._storage_errors():
            self.storage = _open_storage(self.url, folder) if storage is None else storage
            # The sampler of this study is never asked.
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=self.name,
                directions=self.directions,
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )
            if not self.study.user_attrs.get("ready"):
                self._take_over()

    def points(self) -> list[Recorded]:
        """Each point once, in the order they were proposed; of several results the best known."""
        with self._storage_errors():
            trials = self.study.get_trials(deepcopy=False)
        found: dict[str, Recorded] = {}
        for trial in trials:
            entry = _recorded(trial)
            known = found.get(identity(entry.values))
            # A point that failed is tried again, under a number of its own.
            if known is None or known.outcome == FAILED or (entry.outcome and entry.outcome.values):
                found[identity(entry.values)] = entry
        return list(found.values())

    def begin(
        self, values: Values, parameters: Parameters, system: dict[str, Any], outcome: PointOutcome | None = None
    ) -> int:
        """Keep a point before it runs; returns its number."""
        with self._storage_errors():
            return self._add(values, parameters, system, outcome)

    def end(self, number: int, outcome: PointOutcome) -> None:
        """Keep a result; one that is there already stays."""
        with self._storage_errors():
            values = None if outcome.values is None else list(outcome.values)
            self.study.tell(number, values, outcome.state, skip_if_finished=True)

    def forget(self) -> None:
        """Delete the study and those it would start from."""
        with self._storage_errors():
            for study in [self.study, *self._related()]:
                optuna.delete_study(study_name=study.study_name, storage=self.storage)

    def _add(self, values: Values, parameters: Parameters, system: dict[str, Any], outcome: PointOutcome | None) -> int:
        trial = frozen_trial(values, parameters, system, outcome)
        trial_id = self.storage.create_new_trial(self.study._study_id, template_trial=trial)
        return int(self.storage.get_trial_number_from_id(trial_id))

    def _related(self) -> Iterator[optuna.Study]:
        """Other searches of the sweep: over other axes, for other objectives or with other seeds."""
        for name in optuna.get_all_study_names(self.storage):
            if name != self.name and name.startswith(f"{self.sweep}-"):
                sampler = optuna.samplers.RandomSampler(seed=0)
                other = optuna.load_study(study_name=name, storage=self.storage, sampler=sampler)
                attributes = other.user_attrs
                if (attributes.get("sweep"), attributes.get("context")) == (self.sweep, self.context):
                    yield other

    def _take_over(self) -> None:
        known = {identity(_recorded(trial).values) for trial in self.study.get_trials(deepcopy=False)}
        for other in self._related():
            same = other.user_attrs.get("judged") == self.judged
            for trial in other.get_trials(deepcopy=False):
                entry = _recorded(trial)
                parameters = self.space.parameters(entry.values)
                if parameters is not None and identity(entry.values) not in known:
                    known.add(identity(entry.values))
                    self._add(entry.values, parameters, {}, entry.outcome if same else None)
                if trial.state == TrialState.RUNNING:  # nobody runs it any more
                    other.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        for key, value in (("sweep", self.sweep), ("context", self.context), ("judged", self.judged), ("ready", True)):
            self.study.set_user_attr(key, value)

    def _storage_errors(self) -> contextlib.AbstractContextManager[None]:
        return _storage_errors(self.shown)


def prepare_record(planner: Planner, folder: Path, *, fresh: bool) -> None:
    """Open the record before anything is started for it.

    Args:
        fresh: whether to forget what earlier runs kept there.

    Raises:
        AreamError: the storage does not answer, or holds something else.
    """
    record = SearchRecord(planner, folder)
    if fresh:
        record.forget()


def known_points(planner: Planner, folder: Path) -> list[Recorded]:
    """The points that the next run would start from, read from a copy so that no study is created, nor any table.

    Raises:
        AreamError: the storage does not answer, or holds something else.
    """
    url = planner.spec.search.storage if planner.spec.search else None
    copy = InMemoryStorage()
    is_sqlite = url is not None and url.startswith("sqlite:")
    file = Path(make_url(url).database or "") if url and is_sqlite else folder / SEARCH_FILE
    with tempfile.TemporaryDirectory() as scratch, _storage_errors(masked(url) if url else str(file)):
        if (url and not is_sqlite) or file.exists():
            if url and not _holds_studies(url):
                return []
            if url is None:  # a driver may be writing to it
                shutil.copyfile(file, Path(scratch) / SEARCH_FILE)
            source = _open_storage(url, Path(scratch))
            for name in optuna.get_all_study_names(source):
                if name.startswith(f"{planner.spec.name}-"):
                    optuna.copy_study(from_study_name=name, from_storage=source, to_storage=copy)
        return SearchRecord(planner, folder, copy).points()


def frozen_trial(
    values: Values, parameters: Parameters, system: dict[str, Any], outcome: PointOutcome | None
) -> optuna.trial.FrozenTrial:
    """A point as Optuna stores it; without an outcome it counts as running."""
    return optuna.trial.create_trial(
        state=outcome.state if outcome else TrialState.RUNNING,
        values=list(outcome.values) if outcome and outcome.values else None,
        params={key: raw for key, (raw, _) in parameters.items()},
        distributions={key: distribution for key, (_, distribution) in parameters.items()},
        user_attrs={"values": json.dumps(values)},
        system_attrs=system,
    )


def _recorded(trial: optuna.trial.FrozenTrial) -> Recorded:
    if trial.state == TrialState.COMPLETE:
        outcome: PointOutcome | None = PointOutcome(trial.state, tuple(trial.values))
    else:
        outcome = PointOutcome(trial.state) if trial.state.is_finished() else None
    return Recorded(trial.number, json.loads(trial.user_attrs["values"]), outcome, dict(trial.system_attrs))


@contextlib.contextmanager
def _storage_errors(shown: str) -> Iterator[None]:
    """
    Raises:
        AreamError: in place of what the storage ``shown`` raises.
    """
    try:
        yield
    except AreamError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, ModuleNotFoundError):
            said = f"needs {cause.name}: pip install 'aream-sweep[postgres]'"
        else:
            said = f"cannot be used: {type(cause).__name__}: {str(cause).strip().split(chr(10))[0]}"
        raise AreamError(f"search.storage: {shown} {masked(said)}") from None


def _open_storage(url: str | None, folder: Path) -> BaseStorage:
    if url is None:
        file = folder / SEARCH_FILE
        folder.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(file)
        return JournalStorage(JournalFileBackend(str(file), lock_obj=_HeldByTheDriver()))
    address, arguments = _engine_of(url)
    return RDBStorage(address, engine_kwargs=arguments)


def _engine_of(url: str) -> tuple[str, dict[str, Any]]:
    """Address and arguments of SQLAlchemy's. No connection is held between two trials: none to lose when the server
    restarts."""
    arguments: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite:"):
        return url, arguments
    scheme, rest = url.split("://", 1)
    return f"{scheme}+pg8000://{rest}", {**arguments, "connect_args": {"timeout": CONNECT_S}}


def _holds_studies(url: str) -> bool:
    """Whether Optuna has made its tables there, which opening it would do."""
    address, arguments = _engine_of(url)
    return inspect(create_engine(address, **arguments)).has_table("studies")


def _cut_torn_line(file: Path) -> None:
    """A driver killed while writing leaves half a last line, which the next one would otherwise continue.

    Raises:
        DamagedFile: another line is damaged, and without it Optuna would give results to other points.
    """

    def whole_lines(content: bytes) -> bytes:
        *lines, _ = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
        return b"".join(line + b"\n" for line in lines)

    go_on = "move it away: the search then begins anew, and what it proposes again is answered from the store"
    whole = StateFile(file, "the points that the search proposed, and their results", go_on, whole_lines).read()
    if whole is not None and len(whole) != file.stat().st_size:
        write_bytes(file, whole)


def _digest(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()
