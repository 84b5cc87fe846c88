"""Take points between their source and Ray Tune: those whose stage another process computes, or that somebody paused,
come back and are given out again later, without holding a slot meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from orchestrator.monitor.tasks import COMPUTED_ELSEWHERE

Config = dict[str, Any]


@dataclass(frozen=True)
class Returned:
    """A point that came back."""

    inner: str
    """Tune's trial id under which the source gave it out."""
    config: Config
    computed_elsewhere: str | None
    """Key of the stage that another process computes; None: paused, or the store was unreachable."""


class RequeueingSearcher(Searcher):
    def __init__(
        self,
        points: Searcher,
        problem: DeferredError,
        *,
        poll: Callable[[], None],
        closed: Callable[[], bool],
        paused: Callable[[], bool],
        fails: Callable[[Config], bool],
        can_run: Callable[[Config, str | None], bool],
        cancelled: Callable[[Config], bool],
        dropped: Callable[[Config], None],
    ) -> None:
        """
        Args:
            points: the source: a list or a search.
            problem: keeps what goes wrong in ``points`` while a trial ends.
            poll: called at every question: while nothing runs, Tune asks for points and does nothing else.
            closed: whether nothing more is to begin.
            paused: whether nothing is to begin for now.
            fails: whether a point needs what has failed already, and is told to have failed too.
            can_run: whether a point may run, given the key of its stage that another process computed, if any.
            cancelled: whether a point that came back is never to run.
            dropped: told of such a point, once.
        """
        super().__init__(metric=points.metric, mode=points.mode)
        self.points, self.problem = points, problem
        self.poll, self.closed, self.paused = poll, closed, paused
        self.fails, self.can_run, self.cancelled, self.dropped = fails, can_run, cancelled, dropped
        self.running: dict[str, tuple[str, Config]] = {}
        """Tune's trial id -> the source's name, and the point."""
        self.returned: list[Returned] = []
        self.exhausted = False

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores its searcher beside the trials, for a restore of its own that is not used here."""
        return {}

    def suggest(self, trial_id: str) -> Config | str | None:
        self.poll()
        if self.closed():
            return Searcher.FINISHED
        if self.paused():
            return None
        for index, back in enumerate(self.returned):
            if self.cancelled(back.config):
                del self.returned[index]
                self.points.on_trial_complete(back.inner, None, error=True)
                self.dropped(back.config)
                return None
            if self._fails(back.config):
                del self.returned[index]
                self.points.on_trial_complete(back.inner, None, error=True)
                return None
            if self.can_run(back.config, back.computed_elsewhere):
                del self.returned[index]
                self.running[trial_id] = back.inner, back.config
                return dict(back.config)
        if not self.exhausted:
            found = self.points.suggest(trial_id)
            if found == Searcher.FINISHED:
                self.exhausted = True
            elif found is not None and self._fails(found):
                self.points.on_trial_complete(trial_id, None, error=True)
                return None
            elif found is not None:
                self.running[trial_id] = trial_id, dict(found)
                return dict(found)
            else:
                return None
        return None if self.running or self.returned else Searcher.FINISHED

    def _fails(self, config: Config) -> bool:
        failed = False
        with self.problem.capture():  # Tune then ends before it runs
            failed = self.fails(config)
        return failed

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self.problem.capture():
            self.points.on_trial_result(self.running[trial_id][0], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        inner, config = self.running.pop(trial_id)
        if result and (result.get(COMPUTED_ELSEWHERE) or result.get("paused") or result.get("away")):
            self.returned.append(Returned(inner, config, result.get(COMPUTED_ELSEWHERE)))
            return
        with self.problem.capture():
            self.points.on_trial_complete(inner, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a sweep continues from its store, not from a Tune checkpoint."""

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a search continues by running its sweep again, not from a Tune checkpoint")


class DeferredError:
    """The first error of the driver's own work while Tune tells of a trial, kept until Tune lets it through.

    Raised at once, Tune would take it for a failure of the trial and run that once more.
    """

    def __init__(self) -> None:
        self.first: Exception | None = None

    @contextmanager
    def capture(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.first = self.first or error

    def raise_pending(self) -> None:
        """Raise what was captured first, if anything was."""
        if self.first is not None:
            raise self.first
